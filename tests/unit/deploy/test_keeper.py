"""When a worker counts as hanging."""

from deploy.local.keeper import ProgressWatch


def make_watch() -> ProgressWatch:
    return ProgressWatch(stale_seconds=60, start_seconds=900)


def test_a_worker_whose_file_moves_is_never_stale():
    watch = make_watch()

    assert not any(watch.is_stale(pid=1, stamp=second, now=second) for second in range(0, 3000, 5))


def test_a_worker_whose_file_stands_still_is_stale_after_the_limit():
    watch = make_watch()
    watch.is_stale(pid=1, stamp=1, now=0)
    watch.is_stale(pid=1, stamp=2, now=5)

    assert not watch.is_stale(pid=1, stamp=2, now=65)
    assert watch.is_stale(pid=1, stamp=2, now=66)


def test_a_worker_that_still_loads_its_model_has_longer():
    watch = make_watch()
    watch.is_stale(pid=1, stamp=None, now=0)

    assert not watch.is_stale(pid=1, stamp=None, now=900)
    assert watch.is_stale(pid=1, stamp=None, now=901)


def test_a_new_worker_is_not_judged_by_the_file_of_the_one_before():
    watch = make_watch()
    watch.is_stale(pid=1, stamp=1, now=0)
    watch.is_stale(pid=1, stamp=2, now=5)

    assert not watch.is_stale(pid=2, stamp=2, now=100)
    assert not watch.is_stale(pid=2, stamp=2, now=900)


def test_a_file_that_goes_back_in_time_counts_as_a_sign_of_life():
    watch = make_watch()
    watch.is_stale(pid=1, stamp=100, now=0)
    watch.is_stale(pid=1, stamp=200, now=5)

    assert not watch.is_stale(pid=1, stamp=150, now=64)
    assert not watch.is_stale(pid=1, stamp=150, now=120)


def test_a_file_that_goes_is_a_start_and_gives_the_worker_the_time_of_one():
    """The worker died, and its parent, whose process this is, forked the next."""
    watch = make_watch()
    for now, stamp in ((0, 1), (5, 2), (10, None)):
        assert not watch.is_stale(pid=7, stamp=stamp, now=now)
    assert not watch.is_stale(pid=7, stamp=None, now=10 + 899)
    assert watch.is_stale(pid=7, stamp=None, now=10 + 901)
    assert not watch.is_stale(pid=7, stamp=3, now=10 + 902)
    assert watch.is_stale(pid=7, stamp=3, now=10 + 902 + 61)

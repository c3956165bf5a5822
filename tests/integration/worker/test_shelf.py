"""The storage is away or slow while an executor draws: pictures wait on disk, none is drawn twice, none is lost."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from core.image_store import USUAL, ImageStore, Patience, Stored, object_key
from core.job import JobState, Release
from core.redis_client import PREFIX
from tests.fault_proxy import tcp_proxy
from tests.integration.worker.conftest import new_job, wait_until
from tests.integration.worker.test_executor import CountingEngine
from worker.lease_keeper import HeldLease
from worker.shelf import FIRST_PAUSE_SECONDS, Room, Shelf
from worker.spool import Spool

MIB = 1 << 20


@contextlib.contextmanager
def behind_proxy(bench, patience=USUAL, **changes):
    """The bench with a counting engine and its storage behind a proxy: (bench, proxy)."""
    room = Room(folder=bench.settings.data_dir, most_bytes=100 * MIB, free_disk_bytes=0)
    with tcp_proxy(int(bench.settings.s3_endpoint_url.rsplit(":", 1)[1])) as proxy:
        images = ImageStore(replace(bench.settings, s3_endpoint_url=f"http://127.0.0.1:{proxy.port}"), patience)
        spool = Spool(bench.settings.data_dir / "spool", bench.store.ended_among)
        shelf = Shelf(images, spool, replace(room, **changes), wait_seconds=0.5)
        shelf.start()
        try:
            yield (
                bench.remade(engine=CountingEngine(bench.parts.engine), images=images, spool=spool, shelf=shelf),
                proxy,
            )
        finally:
            bench.parts.keeper.stop_all(RuntimeError("the test is over"))
            shelf.close()


def cut(proxy) -> None:
    proxy.refuses = True
    proxy.cut()


def spooled(bench) -> int:
    return len(list((bench.settings.data_dir / "spool").glob("*.spooled")))


def ledger(bench) -> list[str]:
    return [fields["kind"] for _, fields in bench.store.redis.xrange(f"{PREFIX}ledger")]


def shelve_one(bench, proxy):
    """One drawn picture that waits: its release."""
    cut(proxy)
    release = bench.submit()
    assert bench.execute(release).state is JobState.RUNNING
    assert bench.parts.shelf.count == 1
    return release


def lose_lease(bench, release) -> tuple[HeldLease, Release]:
    """As after kill -9, nobody renews, and the reaper takes the job back: (what was held, the job's next release)."""
    [held] = bench.parts.keeper._snapshot()
    bench.parts.keeper.drop(held)

    def is_reaped() -> bool:
        bench.store.redis.zadd(f"{PREFIX}lease", {release.job_id: 1})
        bench.store.redis.set(f"{PREFIX}grace", 1)
        return bench.store.reap().leases == 1

    wait_until(is_reaped)  # a renewal that was under way may still have lengthened it once
    bench.alive()
    [again] = bench.store.release(1)
    return held, again


def test_pictures_wait_on_disk_while_others_are_drawn_and_all_are_stored_once(bench):
    with behind_proxy(bench) as (here, proxy):
        cut(proxy)
        releases = [here.submit(new_job(seed=seed)) for seed in range(12)]

        with ThreadPoolExecutor(2) as pool:
            jobs = list(pool.map(here.execute, releases))

        assert {job.state for job in jobs} == {JobState.RUNNING}
        assert (here.parts.engine.submits, here.parts.shelf.count, spooled(here)) == (12, 12, 12)
        assert here.store.redis.scard(f"{PREFIX}held:bench") == 0
        proxy.refuses = False
        wait_until(lambda: all(here.job(one.job_id).state.is_terminal for one in releases))

        assert {here.job(one.job_id).attempt for one in releases} == {1}
        assert here.parts.engine.submits == 12
        assert ledger(here) == ["charge"] * 12
        wait_until(lambda: here.parts.shelf.count == here.parts.keeper.count == spooled(here) == 0)
        assert len({here.png(here.job(one.job_id)) for one in releases}) == 12


def test_leases_of_waiting_pictures_go_on(bench):
    with behind_proxy(bench) as (here, proxy):
        release = shelve_one(here, proxy)
        lease_end = here.store.redis.zscore(f"{PREFIX}lease", release.job_id)

        wait_until(lambda: here.store.redis.zscore(f"{PREFIX}lease", release.job_id) > lease_end + 2 * 3000)

        assert here.store.reap().leases == 0


def test_a_storage_that_is_only_slow_keeps_no_seat(bench):
    with behind_proxy(bench, Patience(1.0, 2.0, 1)) as (here, proxy):
        proxy.holds_answers = True
        releases = [here.submit(new_job(seed=seed)) for seed in range(4)]
        thread = threading.Thread(target=lambda: [here.execute(release) for release in releases], daemon=True)
        thread.start()
        wait_until(lambda: here.parts.shelf.count == 4)
        proxy.holds_answers = False
        proxy.cut()

        wait_until(lambda: all(here.job(one.job_id).state.is_terminal for one in releases))

        assert here.parts.engine.submits == 4


def test_one_moment_in_which_the_storage_fails_many_uploads_is_one_pause(bench):
    with behind_proxy(bench, Patience(5.0, 60.0, 1)) as (here, proxy):
        proxy.holds_answers = True
        releases = [here.submit(new_job(seed=seed)) for seed in range(6)]
        shelf = here.parts.shelf
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(here.execute, releases))
        wait_until(lambda: shelf.count == 6 and not shelf._waiting)  # all six are in the air

        proxy.cut()

        wait_until(lambda: len(shelf._waiting) >= 5)  # one may ask whether it is back
        assert shelf._pause_seconds == FIRST_PAUSE_SECONDS
        proxy.holds_answers = False
        proxy.cut()
        wait_until(lambda: all(here.job(one.job_id).state.is_terminal for one in releases))
        assert here.parts.engine.submits == 6


def test_the_next_run_on_the_same_disk_stores_the_picture_of_a_lost_worker(bench):
    with behind_proxy(bench) as (here, proxy):
        release = shelve_one(here, proxy)
        _, again = lose_lease(here, release)
        proxy.refuses = False

        job = here.execute(again)
        job = wait_until(lambda: (found := here.job(release.job_id)).state.is_terminal and found)

        assert (job.state, job.attempt, job.alone) == (JobState.SUCCEEDED, 2, False)
        assert here.parts.engine.submits == 1
        assert ledger(here) == ["charge"]


def test_a_late_picture_takes_none_away_from_a_later_run_that_waits(bench):
    with behind_proxy(bench) as (here, proxy):
        release = shelve_one(here, proxy)
        late, again = lose_lease(here, release)
        assert here.execute(again).state is JobState.RUNNING
        picture = here.parts.spool.find(release.job_id)

        here.executor._end_shelved(late, Stored(picture.sha256, len(picture.png)))

        assert spooled(here) == 1
        proxy.refuses = False
        job = wait_until(lambda: (found := here.job(release.job_id)).state.is_terminal and found)
        assert (job.state, job.attempt) == (JobState.SUCCEEDED, 2)
        assert here.parts.engine.submits == 1
        wait_until(lambda: spooled(here) == 0)


def test_a_late_picture_of_an_ended_job_leaves_nothing_on_the_disk(bench):
    with behind_proxy(bench) as (here, proxy):
        release = shelve_one(here, proxy)
        [late] = here.parts.keeper._snapshot()
        picture = here.parts.spool.find(release.job_id)
        here.store.cancel(release.job_id)
        wait_until(lambda: spooled(here) == 0)
        assert here.parts.spool.keep(release.job_id, picture)

        here.executor._end_shelved(late, Stored(picture.sha256, len(picture.png)))

        assert spooled(here) == 0
        assert here.job(release.job_id).state is JobState.CANCELED


def test_a_canceled_picture_leaves_the_shelf_and_the_disk_while_the_storage_is_still_away(bench):
    with behind_proxy(bench) as (here, proxy):
        release = shelve_one(here, proxy)

        here.store.cancel(release.job_id)

        wait_until(lambda: here.job(release.job_id).state is JobState.CANCELED)
        wait_until(lambda: here.parts.shelf.count == spooled(here) == 0)
        assert ledger(here) == ["refund"]


def test_a_picture_whose_deadline_passes_while_the_storage_is_away_is_dead_and_refunded(bench):
    with behind_proxy(bench) as (here, proxy):
        release = shelve_one(here, proxy)

        here.store.redis.hset(f"{PREFIX}job:{release.job_id}", "deadline", 1)

        job = wait_until(lambda: (found := here.job(release.job_id)).state.is_terminal and found)
        assert (job.state, job.failure.code) == (JobState.DEAD, "storage_failed")
        assert ledger(here) == ["refund"]
        wait_until(lambda: here.parts.shelf.count == spooled(here) == 0)


def test_whoever_lost_his_lease_stores_nothing(bench):
    with behind_proxy(bench) as (here, proxy):
        release = shelve_one(here, proxy)
        job = here.job(release.job_id)
        here.store.redis.hset(f"{PREFIX}job:{job.id}", "token", "somebody-else")

        wait_until(lambda: here.parts.shelf.count == 0)
        proxy.refuses = False

        assert here.images.head(object_key(job.tenant, job.id, job.created_ms)) is None
        assert here.job(job.id).state is JobState.RUNNING


def test_a_drain_waits_for_uploads_within_its_grace(bench):
    with behind_proxy(bench) as (here, proxy):
        release = shelve_one(here, proxy)
        drain = threading.Thread(target=here.executor.drain, args=(60,), daemon=True)
        drain.start()
        proxy.refuses = False

        drain.join(40)

        assert not drain.is_alive()
        assert here.job(release.job_id).state is JobState.SUCCEEDED


def test_a_drain_gives_back_what_the_storage_did_not_take_and_the_picture_stays_on_disk(bench):
    with behind_proxy(bench) as (here, proxy):
        release = shelve_one(here, proxy)

        here.executor.drain(0.1)

        job = here.job(release.job_id)
        assert (job.state, job.attempt) == (JobState.QUEUED, 0)
        assert spooled(here) == 1


def test_a_full_backlog_stops_admission_says_so_and_opens_again(bench):
    with behind_proxy(bench, most_bytes=1) as (here, proxy):
        assert here.parts.shelf.has_room()
        release = shelve_one(here, proxy)

        assert not here.parts.shelf.has_room()

        proxy.refuses = False
        wait_until(lambda: here.job(release.job_id).state is JobState.SUCCEEDED)
        wait_until(here.parts.shelf.has_room)


@pytest.mark.parametrize("fault", ["a full disk", "a broken disk"])
def test_without_a_disk_to_keep_pictures_on_nothing_more_is_drawn(bench, fault):
    changes = {"free_disk_bytes": 1 << 60} if fault == "a full disk" else {}
    with behind_proxy(bench, **changes) as (here, proxy):
        if fault == "a broken disk":
            (here.settings.data_dir / "spool").write_text("a file where the folder should be")
        release = shelve_one(here, proxy)

        assert not here.parts.shelf.has_room()

        proxy.refuses = False
        wait_until(lambda: here.job(release.job_id).state is JobState.SUCCEEDED)
        wait_until(here.parts.shelf.has_room)
        assert here.parts.engine.submits == 1

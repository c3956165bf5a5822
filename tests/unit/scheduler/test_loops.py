"""The scheduler's loops: outages, stops, retention."""

import threading

import pytest

from core.errors import RedisUnavailable, StorageUnavailable
from core.redis_client import PREFIX
from core.settings import Settings
from core.trash import TrashBin
from scheduler.__main__ import make_loops
from scheduler.loops import Loop
from scheduler.reaper import Reaper
from scheduler.retention import Retention
from tests.queue_kit import Kit, make_picture


class Objects:
    """Storage as a set of names; `is_down` refuses everything."""

    def __init__(self):
        self.deleted, self.is_down = [], False

    def delete(self, key):
        if self.is_down:
            raise StorageUnavailable("down")
        self.deleted.append(key)


@pytest.fixture
def kit(fake_redis):
    return Kit(fake_redis)


@pytest.fixture
def objects():
    return Objects()


@pytest.fixture
def retention(kit, objects):
    return Retention(kit.store, TrashBin(kit.redis, lambda tenant, job_id, _: f"{tenant}/{job_id}"), objects)


def test_a_loop_outlives_an_outage():
    stop, turns = threading.Event(), []

    def turn():
        turns.append(1)
        if len(turns) < 3:
            raise RedisUnavailable("away")
        stop.set()

    Loop("test", turn, stop).run()

    assert len(turns) == 3


def test_an_unexpected_error_ends_the_process_so_that_it_is_started_again():
    stop = threading.Event()

    def turn():
        raise KeyError("bug")

    loop = Loop("test", turn, stop)
    loop.run()

    assert (loop.failed, stop.is_set()) == (True, True)


def test_an_unexpected_error_beside_the_queue_ends_nothing_and_is_tried_again(monkeypatch):
    monkeypatch.setattr("scheduler.loops.FAILED_SECONDS", 0.0)
    stop, turns = threading.Event(), []

    def turn():
        turns.append(1)
        if len(turns) < 3:
            raise KeyError("bug")
        stop.set()

    loop = Loop("test", turn, stop, vital=False)
    loop.run()

    assert (len(turns), loop.failed) == (3, False)


def test_only_release_and_reaper_end_the_process(tmp_path):
    loops = make_loops(Settings(data_dir=tmp_path), threading.Event())

    assert {loop.name for loop in loops if loop.vital} == {"release", "reap"}


def test_a_loop_says_that_it_lives_even_while_redis_is_away():
    stop, alive = threading.Event(), []

    def turn():
        stop.set()
        raise RedisUnavailable("away")

    Loop("test", turn, stop, on_alive=alive.append).run()

    assert alive == ["test"]


def test_the_reaper_goes_on_until_nothing_is_due(kit):
    for _ in range(150):
        kit.let_run_out("lease", kit.running().id)

    reaper = Reaper(kit.store)
    reaper.turn()

    assert reaper.taken_back == 150


def test_expired_pictures_lose_their_object_and_due_records_go(kit, retention, objects):
    expired, old = kit.succeeded(), kit.succeeded()
    kit.let_run_out("pictures", expired)
    kit.let_run_out("records", old)

    retention.turn()

    assert sorted(objects.deleted) == sorted([make_picture(expired).key, make_picture(old).key])
    assert kit.job(expired).picture_removed
    assert kit.store.was_removed(old)
    assert kit.redis.zcard(f"{PREFIX}trash") == 0


def test_everything_that_is_due_goes_in_one_turn(kit, retention, objects, monkeypatch):
    monkeypatch.setattr("scheduler.retention.AT_ONCE", 10)
    expired, old = [kit.succeeded() for _ in range(25)], [kit.succeeded() for _ in range(35)]
    for job_id in expired:
        kit.let_run_out("pictures", job_id)
    for job_id in old:
        kit.let_run_out("records", job_id)

    retention.turn()

    assert (retention.expired, retention.deleted, len(objects.deleted)) == (25, 60, 60)
    assert kit.redis.zcard(f"{PREFIX}records") == 25
    assert kit.redis.zcard(f"{PREFIX}trash") == 0


def test_one_turn_is_bounded(kit, retention, monkeypatch):
    monkeypatch.setattr("scheduler.retention.AT_ONCE", 1)
    monkeypatch.setattr("scheduler.retention.PORTIONS_MOST", 3)
    for _ in range(5):
        kit.let_run_out("pictures", kit.succeeded())

    retention.turn()

    assert retention.expired == 3


def test_while_the_storage_is_down_deletions_wait(kit, retention, objects):
    job_id = kit.succeeded()
    kit.let_run_out("pictures", job_id)
    objects.is_down = True
    retention.turn()
    assert kit.job(job_id).picture_removed

    objects.is_down = False
    retention.turn()

    assert objects.deleted == [make_picture(job_id).key]


def test_workers_that_were_silent_for_a_day_are_forgotten(kit, retention):
    kit.redis.zadd(f"{PREFIX}workers", {"old": 1})

    retention.turn()

    assert kit.redis.zrange(f"{PREFIX}workers", 0, -1) == ["w1"]

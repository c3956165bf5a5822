"""What nobody shows any more leaves the storage, whatever single objects do."""

import pytest

from core.errors import StorageFailure, StorageUnavailable
from core.redis_client import PREFIX
from core.settings import Settings
from core.trash import Trash, TrashBin
from scheduler.retention import OBJECTS_AT_ONCE, REFUSED_AGAIN_SECONDS, Retention
from tests.queue_kit import Kit, make_picture


class Bucket:
    """Storage as a set of names: some are locked, and after `lives` deletions it is away."""

    def __init__(self, lives=1000):
        self.deleted, self.locked, self.lives = [], set(), lives

    def delete(self, key):
        if key in self.locked:
            raise StorageFailure(f"The storage refused {key} (AccessDenied).")
        if len(self.deleted) >= self.lives:
            raise StorageUnavailable("down")
        self.deleted.append(key)


@pytest.fixture
def kit(fake_redis):
    return Kit(fake_redis)


@pytest.fixture
def bin_(kit):
    return TrashBin(kit.redis, lambda tenant, job_id, _: f"{tenant}/{job_id}")


def remove(kit, job_ids):
    for job_id in job_ids:
        assert kit.store.remove(job_id)


def test_an_object_that_the_storage_refuses_to_delete_keeps_no_other_one(kit, bin_, monkeypatch):
    monkeypatch.setattr("scheduler.retention.AT_ONCE", 2)
    ids, bucket = [kit.succeeded() for _ in range(6)], Bucket()
    bucket.locked = {make_picture(ids[0]).key, make_picture(ids[1]).key}
    retention = Retention(kit.store, bin_, bucket)
    remove(kit, ids)
    for number, job_id in enumerate(ids):
        kit.redis.zadd(f"{PREFIX}trash", {make_picture(job_id).key: 1 + number})

    retention.turn()

    assert sorted(bucket.deleted) == sorted(make_picture(one).key for one in ids[2:])
    assert (retention.deleted, retention.refused) == (4, 2)


def test_a_refused_object_is_asked_for_again_later_and_then_goes(kit, bin_):
    job_id, bucket = kit.succeeded(), Bucket()
    bucket.locked = {make_picture(job_id).key}
    retention = Retention(kit.store, bin_, bucket)
    remove(kit, [job_id])

    retention.turn()
    seconds, _ = kit.redis.time()
    [(entry, due)] = kit.redis.zrange(f"{PREFIX}trash", 0, -1, withscores=True)
    assert due / 1000 - seconds == pytest.approx(REFUSED_AGAIN_SECONDS, abs=5)

    bucket.locked.clear()
    kit.redis.zadd(f"{PREFIX}trash", {entry: 1})
    retention.turn()
    assert (bucket.deleted, kit.redis.zcard(f"{PREFIX}trash")) == ([make_picture(job_id).key], 0)


def test_what_another_scheduler_deleted_meanwhile_is_not_put_back(kit, bin_):
    bin_.postpone([Trash("a/gone.png", "a/gone.png")], 60)

    assert kit.redis.zcard(f"{PREFIX}trash") == 0


def test_a_storage_that_goes_away_is_not_asked_for_the_rest(kit, bin_):
    ids, bucket = [kit.succeeded() for _ in range(4)], Bucket(lives=1)
    retention = Retention(kit.store, bin_, bucket)
    remove(kit, ids)

    retention.turn()

    assert (len(bucket.deleted), retention.refused, kit.redis.zcard(f"{PREFIX}trash")) == (1, 0, 3)


@pytest.mark.parametrize("kind", ["records", "pictures"])
def test_what_is_due_while_objects_are_deleted_does_not_wait_for_them(kit, bin_, monkeypatch, kind):
    late, ids = kit.succeeded(), [kit.succeeded() for _ in range(60)]
    bucket = Bucket()
    remove(kit, ids)

    def delete(key):
        bucket.deleted.append(key)
        if len(bucket.deleted) == 5:
            kit.let_run_out(kind, late)
        if len(bucket.deleted) == 5 + OBJECTS_AT_ONCE:
            assert is_gone(kit, kind, late)

    monkeypatch.setattr(bucket, "delete", delete)

    Retention(kit.store, bin_, bucket).turn()

    assert len(bucket.deleted) > 5 + OBJECTS_AT_ONCE


def is_gone(kit, kind, job_id):
    job = kit.store.get(job_id)
    return job is None if kind == "records" else job.picture_removed


def test_a_slow_storage_is_left_after_a_second_for_what_is_due(kit, bin_):
    late, ids = kit.succeeded(), [kit.succeeded() for _ in range(10)]
    now, seen = [0.0], []

    class Slow(Bucket):
        def delete(self, key):
            super().delete(key)
            now[0] += 0.6
            if len(self.deleted) == 1:
                kit.let_run_out("records", late)
            seen.append(kit.store.get(late) is None)

    remove(kit, ids)

    Retention(kit.store, bin_, Slow(), clock=lambda: now[0]).turn()

    assert (len(seen), seen.index(True)) == (11, 2)


def test_records_go_while_the_storage_is_away(kit, bin_):
    ids = [kit.succeeded() for _ in range(3)]
    remove(kit, ids[:1])
    kit.let_run_out("records", ids[1])

    Retention(kit.store, bin_, Bucket(lives=0)).turn()

    assert kit.store.get(ids[1]) is None


def test_a_turn_has_an_end_however_much_there_is_to_delete(kit, bin_, monkeypatch):
    monkeypatch.setattr("scheduler.retention.OBJECT_PORTIONS_MOST", 2)
    bucket = Bucket()
    remove(kit, [kit.succeeded() for _ in range(3 * OBJECTS_AT_ONCE)])

    Retention(kit.store, bin_, bucket).turn()

    assert len(bucket.deleted) == 2 * OBJECTS_AT_ONCE


@pytest.mark.parametrize("made", ["queued", "released"])
def test_a_job_that_was_never_released_leaves_no_object_to_delete(kit, made):
    one = getattr(kit, made)()
    job_id = getattr(one, "job_id", one)

    kit.store.cancel(job_id)

    assert kit.redis.zcard(f"{PREFIX}trash") == (0 if made == "queued" else 1)


def test_neither_does_one_that_waited_until_its_deadline(kit):
    kit.let_run_out("deadline", kit.queued())

    kit.store.reap()

    assert kit.redis.zcard(f"{PREFIX}trash") == 0


def test_names_of_workers_that_are_gone_for_a_day_go_too(kit, bin_):
    for state in ("paused", "draining"):
        kit.redis.sadd(f"{PREFIX}{state}", "worker:gone", "worker:w1", "lane:batch", "tenant:a")

    Retention(kit.store, bin_, Bucket()).turn()

    for state in ("paused", "draining"):
        assert kit.redis.smembers(f"{PREFIX}{state}") == {"worker:w1", "lane:batch", "tenant:a"}


def test_a_worker_that_says_goodbye_is_neither_paused_nor_drained_any_more(kit):
    for state in ("paused", "draining"):
        kit.redis.sadd(f"{PREFIX}{state}", "worker:w1", "worker:w2")

    kit.store.forget_worker("w1")

    assert [kit.redis.smembers(f"{PREFIX}{state}") for state in ("paused", "draining")] == [{"worker:w2"}] * 2


def test_a_worker_that_is_only_silent_stays_paused_for_a_day(kit, bin_):
    kit.store.pause("worker", "w1")
    kit.redis.zrem(f"{PREFIX}workers", "w1")

    Retention(kit.store, bin_, Bucket()).turn()

    assert kit.store.paused() == ["worker:w1"]


def test_the_ledger_is_trimmed_by_whole_days_of_the_setting_and_says_so(fake_redis, bin_):
    kit = Kit(fake_redis, Settings(ledger_days=45))
    ledger, (seconds, _) = f"{PREFIX}ledger", kit.redis.time()
    today = seconds // 86_400
    entry = {"job": "j", "tenant": "a", "kind": "refund", "cost": 1, "day": "20200101"}
    for day in (today - 46, today - 45, today):
        kit.redis.xadd(ledger, entry, id=f"{day * 86_400_000}-1")

    Retention(kit.store, bin_, Bucket()).turn()

    assert [one.partition("-")[0] for one, _ in kit.redis.xrange(ledger)] == [
        str(day * 86_400_000) for day in (today - 45, today)
    ]
    assert kit.redis.get(f"{PREFIX}ledger_cut") == str((today - 45) * 86_400_000)


def test_a_ledger_that_is_young_enough_is_not_touched(kit, bin_):
    kit.succeeded()
    before = kit.snapshot()

    Retention(kit.store, bin_, Bucket()).turn()

    assert kit.snapshot() == before

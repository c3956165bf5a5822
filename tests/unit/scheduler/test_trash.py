"""What nobody shows any more leaves the storage, whatever single objects do."""

import pytest

from core.errors import StorageFailure, StorageUnavailable
from core.redis_client import PREFIX
from core.trash import Trash, TrashBin
from scheduler.retention import REFUSED_AGAIN_SECONDS, Retention
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

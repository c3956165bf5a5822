"""A full Redis lets people in, shuts them out and hears who lives; no new work begins until it has room."""

import pytest

from core.errors import Forbidden, RedisUnavailable
from core.job import JobState
from core.redis_client import PREFIX
from core.settings import Settings
from scheduler.tenants import LAST_USED_STEP_MS, Tenants
from scheduler.traffic import Flow, Kind, Stop, Traffic
from tests.queue_kit import Kit


@pytest.fixture
def kit(valkey):
    return Kit(valkey)


@pytest.fixture
def tenants(valkey):
    return Tenants(valkey, Settings())


@pytest.fixture
def fill(valkey):
    """Makes Redis full; it has room again after the test."""
    yield lambda: valkey.config_set("maxmemory", 1)
    valkey.config_set("maxmemory", 0)


@pytest.fixture
def key_id(tenants, valkey):
    """A key of the tenant `a` that was used a while ago, so that its next use is noted."""
    _, shown = tenants.create_key("a")
    valkey.hset(f"{PREFIX}key:{shown.id}", "last_used_ms", tenants.now_ms() - LAST_USED_STEP_MS)
    return shown.id


def test_a_key_opens_its_tenant_though_its_use_can_not_be_noted(tenants, key_id, fill):
    fill()

    assert tenants.find(key_id).name == "a"


def test_a_key_opens_its_tenant_on_a_replica(tenants, key_id, valkey):
    valkey.replicaof("127.0.0.1", "1")
    try:
        assert tenants.find(key_id).name == "a"
    finally:
        valkey.replicaof("NO", "ONE")


def test_a_key_is_revoked(tenants, key_id, fill):
    fill()

    assert tenants.revoke_key(key_id)
    assert tenants.find(key_id) is None


def test_a_tenant_is_banned_and_let_in_again(tenants, key_id, fill):
    fill()

    assert tenants.ban("a", "spam").ban_reason == "spam"
    with pytest.raises(Forbidden, match="spam"):
        tenants.find(key_id)
    tenants.unban("a")
    assert tenants.find(key_id).name == "a"


@pytest.mark.parametrize("flow", [Flow.PAUSED, Flow.DRAINING])
def test_a_lane_is_stopped_and_opened_again(kit, flow, fill):
    traffic = Traffic(kit.store)
    fill()

    traffic.set(Kind.LANE, "batch", flow)
    stopped = traffic.stops()
    traffic.set(Kind.LANE, "batch", Flow.OPEN)

    assert (stopped, traffic.stops()) == ([Stop(Kind.LANE, "batch", flow)], [])


def test_workers_live_and_nothing_is_released_until_there_is_room(kit, fill, valkey):
    waiting = kit.queued()
    valkey.delete(f"{PREFIX}workers")
    fill()

    kit.add_worker("w1", slots=4)
    with pytest.raises(RedisUnavailable, match="full"):
        kit.store.release(10)
    while_full = [worker.name for worker in kit.store.live_workers()], kit.state(waiting)
    valkey.config_set("maxmemory", 0)

    assert while_full == (["w1"], JobState.QUEUED)
    assert [one.job_id for one in kit.store.release(10)] == [waiting]

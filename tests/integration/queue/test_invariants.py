"""The function that each row of the fault matrix ends with: each invariant, broken by hand, is noticed by it."""

import hashlib
from pathlib import Path

import pytest

from core.job import Picture
from core.redis_client import PREFIX, connect
from deploy.local.embedded import valkey_binary
from tests.fixtures.redis import KEEPS_HISTORY, running_server
from tests.integration.queue.test_processes import submit
from tests.queue_invariants import assert_invariants
from tests.queue_kit import Kit
from tests.queue_processes import Fleet

JOBS = 30


@pytest.fixture
def row(tmp_path, monkeypatch):
    """A fleet without processes: the test draws by itself."""
    monkeypatch.setattr("tests.queue_invariants.REST_SECONDS", 0.2)
    with running_server(str(valkey_binary()), *KEEPS_HISTORY) as server:
        yield Fleet(server, tmp_path, {"STUB_FOLDER": str(tmp_path)})


def draw_all(fleet):
    """One at a time, as one worker with one seat does."""
    kit = Kit(connect(fleet.server.url), fleet.settings)
    while releases := kit.store.release(1):
        run = kit.claim(releases[0])
        png = run.id.encode()
        (Path(fleet.environ["STUB_FOLDER"]) / f"{run.id}.png").write_bytes(png)
        sha256 = hashlib.sha256(png).hexdigest()
        picture = Picture(key=f"t/{run.id}.png", sha256=sha256, width=512, height=512, size_bytes=len(png))
        assert kit.store.complete(run.id, run.token, picture)


def drawn(fleet):
    ids = submit(fleet, JOBS)
    draw_all(fleet)
    return ids


def test_a_row_that_is_in_order_passes(row):
    history = assert_invariants(row, drawn(row))

    assert len(history.runs) == JOBS


def leave_one_open(fleet, ids):
    ids += submit(fleet, 1)


def charge_twice(fleet, ids):
    redis = fleet.store.redis
    [(_, entry)] = redis.xrange(f"{PREFIX}ledger", count=1)
    redis.xadd(f"{PREFIX}ledger", entry)


def lose_an_object(fleet, ids):
    (Path(fleet.environ["STUB_FOLDER"]) / f"{ids[3]}.png").unlink()


def spoil_an_object(fleet, ids):
    (Path(fleet.environ["STUB_FOLDER"]) / f"{ids[3]}.png").write_bytes(b"half")


def keep_a_reservation(fleet, ids):
    redis = fleet.store.redis
    redis.hincrby(next(redis.scan_iter(f"{PREFIX}use:x:*")), "reserved", 1)


def hold_a_seat(fleet, ids):
    fleet.store.redis.zadd(f"{PREFIX}run:x", {ids[0]: 1})


def forget_a_job(fleet, ids):
    fleet.store.redis.delete(f"{PREFIX}job:{ids[5]}")


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (leave_one_open, "has not ended"),  # I1
        (charge_twice, "settled as"),  # I2
        (lose_an_object, "has no object"),  # I3
        (spoil_an_object, "bytes are others"),
        (keep_a_reservation, "reserves 1"),  # I4
        (hold_a_seat, "run:x is left"),
        (forget_a_job, "has not ended: None"),  # I5
    ],
)
def test_an_invariant_that_was_broken_by_hand_is_noticed(row, broken, said):
    ids = drawn(row)
    broken(row, ids)

    with pytest.raises(AssertionError, match=said):
        assert_invariants(row, ids)


def test_a_tenant_that_waits_beyond_its_turn_is_noticed(row):
    """I6: it is put out of the race by hand until the others are done."""
    ids = submit(row, JOBS)
    row.store.redis.zadd(f"{PREFIX}act", {"y|interactive": 1e9})
    draw_all(row)

    with pytest.raises(AssertionError, match=r"tenant='y'.* was given 0\.00"):
        assert_invariants(row, ids)


def test_a_row_in_which_nobody_contended_shows_nothing_of_shares(row):
    ids = submit(row, JOBS, tenant="a")
    draw_all(row)

    with pytest.raises(AssertionError, match="side by side"):
        assert_invariants(row, ids)
    assert_invariants(row, ids, is_contended=False)

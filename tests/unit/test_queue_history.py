"""The offline checker of the fault matrix notices what may not happen to a job."""

from dataclasses import replace

import pytest

from core.redis_client import connect
from deploy.local.embedded import valkey_binary
from tests.fixtures.redis import running_server
from tests.queue_history import JobHistory, read_history
from tests.queue_kit import Kit

WELL = JobHistory(
    "j1",
    states=["QUEUED", "RELEASED", "RUNNING", "QUEUED", "RELEASED", "RUNNING", "SUCCEEDED"],
    epochs=[1, 2],
    tokens=["t1", "t2"],
    settled=["charge"],
    told=[("status", what) for what in ("queued", "running", "queued", "running")]
    + [("progress", ""), ("output", ""), ("status", "succeeded")],
)


def test_a_run_that_was_lost_and_repeated_is_no_problem():
    assert list(WELL.problems()) == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"states": [*WELL.states[:-1], "DEAD", "SUCCEEDED"]}, "DEAD -> SUCCEEDED"),
        ({"states": ["QUEUED", "RUNNING", "RELEASED", "RUNNING", "SUCCEEDED"]}, "QUEUED -> RUNNING"),
        ({"states": WELL.states[:-1]}, "ends as []"),
        ({"states": [*WELL.states, "QUEUED"]}, "ends as ['SUCCEEDED']"),
        ({"settled": []}, "was settled as []"),
        ({"settled": ["charge", "charge"]}, "was settled as ['charge', 'charge']"),
        ({"settled": ["refund"]}, "was settled as ['refund']"),
        ({"is_settled_apart": True}, "apart from its end"),
        ({"epochs": [1, 1]}, "releases are counted [1, 1]"),
        ({"epochs": [2, 1]}, "releases are counted [2, 1]"),
        ({"tokens": ["t1", "t1"]}, "a fencing token came twice"),
        ({"tokens": ["t1"]}, "2 runs with 1 tokens"),
        ({"told": WELL.told[:-1]}, "of one that ended as"),
        ({"told": [*WELL.told, ("status", "failed")]}, "told succeeded, then failed"),
        ({"told": [*WELL.told, ("progress", "")]}, "after its end"),
        ({"told": [one for one in WELL.told if one[0] != "output"]}, "told of 0 pictures"),
        ({"states": ["QUEUED", "SUCCEEDED"], "epochs": [], "tokens": []}, "was never claimed"),
    ],
)
def test_what_may_not_happen_is_told(wrong, said):
    assert any(said in problem for problem in replace(WELL, **wrong).problems())


def test_the_history_of_a_server_is_read_from_its_file():
    with running_server(str(valkey_binary())) as server:
        kit = Kit(connect(server.url))
        run = kit.running(fingerprint="f", tenant="a")
        follower = kit.queued(fingerprint="f", tenant="a")
        assert kit.complete(run)

        history = read_history(server.folder)

    leader, mirrored = history.jobs[run.id], history.jobs[follower]
    assert (leader.states, leader.tokens) == (["QUEUED", "RELEASED", "RUNNING", "SUCCEEDED"], [run.token])
    assert (mirrored.states, mirrored.tokens, mirrored.leads_to) == (["FOLLOWING", "SUCCEEDED"], [], run.id)
    assert (leader.settled, mirrored.settled) == (["charge"], ["charge"])
    assert [*leader.problems(), *mirrored.problems()] == []


def test_a_command_that_a_crash_left_unfinished_is_no_part_of_the_history(tmp_path):
    def write(*words):
        return b"".join([b"*%d\r\n" % len(words), *[b"$%d\r\n%s\r\n" % (len(one), one) for one in words]])

    whole = write(b"HSET", b"{zimg}:job:j1", b"state", b"QUEUED")
    torn = write(b"MULTI") + write(b"HSET", b"{zimg}:job:j1", b"state", b"RELEASED")
    (tmp_path / "appendonlydir").mkdir()
    (tmp_path / "appendonlydir" / "appendonly.aof.1.incr.aof").write_bytes(whole + torn + whole[:20])

    assert read_history(tmp_path).jobs["j1"].states == ["QUEUED"]


def test_a_folder_without_a_history_is_no_history_without_problems(tmp_path):
    with pytest.raises(AssertionError, match="append-only"):
        read_history(tmp_path)

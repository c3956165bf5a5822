"""Each scheduler process reads the ledger under a name of its own; names of those that are gone do not stay."""

import pytest

from core.webhook_store import LEDGER
from scheduler import ended_jobs
from scheduler.ended_jobs import EndedJobs
from scheduler.webhooks import Webhooks
from tests.integration.api.webhook_kit import *  # noqa: F403
from tests.integration.api.webhook_kit import add, draw, turn

GROUPS = ("webhooks", "request_webhooks")


@pytest.fixture
def without_patience(monkeypatch):
    """As if a day had passed since anybody read."""
    monkeypatch.setattr(ended_jobs, "FORGOTTEN_MS", 0)


def names(valkey, group):
    return {one["name"] for one in valkey.xinfo_consumers(LEDGER, group)}


def started_anew(parts):
    """A scheduler that has just started: it looks after the groups in its first turn."""
    return Webhooks(parts.redis, parts.jobs, parts.settings)


def test_the_names_of_schedulers_that_are_gone_are_forgotten(sender, allowing, valkey, without_patience):
    for group in GROUPS:
        for number in range(3):
            valkey.xgroup_createconsumer(LEDGER, group, f"gone-{number}")

    turn(started_anew(allowing))

    assert not any(name.startswith("gone") for group in GROUPS for name in names(valkey, group))


def test_one_that_was_heard_of_within_a_day_is_kept(sender, allowing, valkey):
    valkey.xgroup_createconsumer(LEDGER, GROUPS[0], "of a moment ago")

    turn(started_anew(allowing))

    assert "of a moment ago" in names(valkey, GROUPS[0])


def test_one_that_read_an_end_and_told_nobody_is_kept_until_another_has_taken_it(
    http, worker, sender, allowing, receiver, valkey, without_patience, monkeypatch
):
    add(http, receiver.url)
    draw(http, worker)
    valkey.xreadgroup(GROUPS[0], "killed", {LEDGER: ">"})

    turn(started_anew(allowing))
    kept = names(valkey, GROUPS[0])
    monkeypatch.setattr(ended_jobs, "ABANDONED_MS", 0)
    turn(started_anew(allowing))

    assert "killed" in kept
    assert "killed" not in names(valkey, GROUPS[0])
    assert len(receiver.calls) == 1


def test_a_scheduler_that_froze_for_a_day_and_was_forgotten_goes_on(
    http, worker, sender, allowing, receiver, valkey, without_patience
):
    add(http, receiver.url)
    turn(started_anew(allowing))
    forgotten = names(valkey, GROUPS[0])
    draw(http, worker)

    turn(sender)

    assert forgotten == set()
    assert len(receiver.calls) == 1


def test_any_server_forgets_who_owes_nothing_and_minds_no_missing_group(any_redis, without_patience):
    ended = EndedJobs(any_redis, "webhooks", "one")

    without_stream = ended.forget_gone()
    any_redis.xgroup_create(LEDGER, "webhooks", mkstream=True)
    any_redis.xadd(LEDGER, {"job": "a"})
    any_redis.xreadgroup("webhooks", "busy", {LEDGER: ">"})
    any_redis.xgroup_createconsumer(LEDGER, "webhooks", "gone")

    assert (without_stream, ended.forget_gone()) == (0, 1)
    assert names(any_redis, "webhooks") == {"busy"}

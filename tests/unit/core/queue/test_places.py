"""Places in the queue: what is drawn, or being drawn for somebody, needs none."""

import pytest

from core.errors import ExceedsLimits, Overloaded, QueueFull
from core.job import JobState, Lane
from core.settings import Settings
from tests.queue_kit import GENEROUS, Kit, limits, make_job


@pytest.mark.parametrize("lead", ["drawn", "being drawn"])
@pytest.mark.parametrize(
    ("settings", "allowed", "error"),
    [(Settings(), limits(queued_jobs=1), QueueFull), (Settings(queued_jobs=1), GENEROUS, Overloaded)],
)
def test_a_full_queue_takes_what_is_drawn_or_being_drawn_already(queue_redis, lead, settings, allowed, error):
    kit = Kit(queue_redis, settings)
    leader = kit.succeeded(fingerprint="f") if lead == "drawn" else kit.running(fingerprint="f").id
    kit.queued()

    with pytest.raises(error):
        kit.submit(fingerprint="another", allowed=allowed)
    assert kit.submit(fingerprint="f", allowed=allowed).leader == leader


def test_a_queue_that_is_over_a_lowered_cap_takes_what_needs_no_place(kit):
    leader = kit.succeeded(fingerprint="f")
    for _ in range(3):
        kit.queued()

    assert kit.submit(fingerprint="f", allowed=limits(queued_jobs=1)).leader == leader


def test_one_models_full_queue_is_nothing_to_what_another_model_draws_beside_a_finished_picture(queue_redis):
    kit = Kit(queue_redis, Settings(queued_jobs=1))
    kit.succeeded(fingerprint="drawn")
    kit.queued()
    kit.add_worker("w2", slots=4, queue="other")
    rows = [make_job(fingerprint="drawn"), make_job(queue="other")]

    assert [one.state for one in kit.store.submit_many(rows, GENEROUS)] == [JobState.SUCCEEDED, JobState.QUEUED]


def test_a_list_that_needs_fewer_places_than_it_has_rows_is_counted_by_its_places(kit):
    for name in ("a", "b"):
        kit.succeeded(fingerprint=name)
    rows = [make_job(fingerprint=name, lane=Lane.BATCH) for name in ("a", "b", "c", "c", "d", "c")]

    with pytest.raises(ExceedsLimits):
        kit.store.submit_many(rows, limits(queued_jobs=1))
    answers = kit.store.submit_many(rows, limits(queued_jobs=2))

    assert [one.state for one in answers][2:4] == [JobState.QUEUED, JobState.FOLLOWING]

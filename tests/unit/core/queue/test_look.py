"""What an answer tells of jobs is read in one call, together with the submit where there is one."""

import pytest

from core.errors import IdempotencyMismatch
from core.job import JobState
from core.look import Look
from tests.queue_kit import limits, make_job

MANY = limits(daily_units=100)


def test_a_submit_tells_how_its_job_stands_where_and_what_is_left(kit):
    kit.queued()
    job = make_job(metadata={"sku": "A1"})

    submitted, seen = kit.store.submit_and_look([job], MANY)

    assert [one.job_id for one in submitted] == [job.id]
    assert seen.jobs == [kit.job(job.id)]
    assert (seen.places[job.id].position, seen.use.daily_remaining) == (2, 98)


def test_several_pictures_of_one_call_are_told_in_their_order(kit):
    jobs = [make_job() for _ in range(3)]

    _, seen = kit.store.submit_and_look(jobs, MANY)

    assert [job.id for job in seen.jobs] == [job.id for job in jobs]
    assert [seen.places[job.id].position for job in jobs] == [1, 2, 3]


def test_a_replay_tells_of_the_first_job(kit):
    first = kit.queued(idempotency_key="k", body_hash="h")

    submitted, seen = kit.store.submit_and_look([make_job(idempotency_key="k", body_hash="h")], MANY)

    assert [(one.job_id, one.replayed) for one in submitted] == [(first, True)]
    assert [job.id for job in seen.jobs] == [first]
    assert (seen.places[first].position, seen.use.daily_remaining) == (1, 99)


def test_a_follower_is_told_with_its_leaders_place(kit):
    kit.queued()
    kit.queued(fingerprint="f")

    submitted, seen = kit.store.submit_and_look([make_job(fingerprint="f")], MANY)

    assert submitted[0].state is JobState.FOLLOWING
    assert seen.places[submitted[0].job_id].position == 2


def test_a_refused_submit_stores_nothing_and_tells_nothing(kit):
    kit.queued(idempotency_key="k", body_hash="h")
    before = kit.snapshot()

    with pytest.raises(IdempotencyMismatch):
        kit.store.submit_and_look([make_job(idempotency_key="k", body_hash="other")], MANY)

    assert kit.snapshot() == before


def test_a_server_that_forgot_the_scripts_stores_the_job_once(kit):
    job = make_job()
    kit.redis.script_flush()

    submitted, seen = kit.store.submit_and_look([job], MANY)

    assert [(one.job_id, one.replayed) for one in submitted] == [(job.id, False)]
    assert (seen.jobs, seen.places[job.id].position) == ([kit.job(job.id)], 1)
    assert kit.use() == {"reserved": 1}


def test_a_look_is_what_single_questions_answer(kit):
    running, waiting, done = kit.running().id, kit.queued(), kit.succeeded()
    ids = [running, waiting, done, "0" * 32]

    seen = kit.store.look(ids, "a", MANY)

    found = kit.store.get_many(ids)
    places = {job.id: place for job in found if job and (place := kit.store.queue_place(job))}
    assert list(places) == [waiting]
    assert seen == Look(jobs=found, places=places, use=seen.use)
    assert seen.use.daily_remaining == kit.store.usage("a", MANY).daily_remaining == 97


def test_the_places_of_many_jobs_are_those_of_each(kit):
    ids = [
        kit.queued(tenant=tenant, fingerprint=mark) for tenant, mark in (("a", "f"), ("b", ""), ("a", "f"), ("a", ""))
    ]
    jobs = [kit.job(job_id) for job_id in (*ids, kit.running().id)]

    places = kit.store.queue_places(jobs)

    assert places == {job.id: kit.store.queue_place(job) for job in jobs[:4]}

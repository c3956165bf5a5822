"""Submission: defaults, seeds, fingerprints, lanes and workers."""

import json
from dataclasses import replace

import pytest

from core.errors import Forbidden, NoWorker
from core.job import JobState, Lane
from core.job_store import JobStore, WorkerInfo
from core.model_profile import ModelProfile
from core.redis_client import PREFIX
from core.settings import Settings
from scheduler.submission import Submission, Wish
from scheduler.tenants import Tenants

PROFILE = ModelProfile("tiny", "r1", (512, 512), (432, 576), (576, 432))


@pytest.fixture
def tenant(fake_redis):
    return Tenants(fake_redis, Settings()).local()


@pytest.fixture
def store(fake_redis):
    return JobStore(fake_redis, Settings())


@pytest.fixture
def submission(store):
    return Submission(store, Settings(), PROFILE)


def wish(**more):
    return Wish(**{"prompt": "a mug", "width": 512, "height": 512, **more})


def test_a_wish_becomes_a_job_with_the_defaults_filled_in(submission, store, tenant):
    job = store.get(submission.submit(tenant, wish(metadata={"sku": "1"})).job_id)

    assert (job.tenant, job.lane, job.request.preset, job.request.model) == ("local", Lane.INTERACTIVE, "turbo", "tiny")
    assert (job.cost_units, job.metadata) == (1, {"sku": "1"})
    assert len(job.id) == 32


def test_a_wish_without_a_seed_is_a_fresh_picture_each_time(submission, store, tenant):
    jobs = [store.get(submission.submit(tenant, wish()).job_id) for _ in range(5)]

    assert {job.state for job in jobs} == {JobState.QUEUED}
    assert len({job.request.seed for job in jobs}) == 5
    assert {job.fingerprint for job in jobs} == {""}


def test_a_wish_with_a_seed_shares_the_work(submission, tenant):
    first = submission.submit(tenant, wish(seed=3))

    again = submission.submit(tenant, wish(seed=3))

    assert (again.state, again.leader) == (JobState.FOLLOWING, first.job_id)


def test_several_pictures_of_one_wish_have_seeds_of_their_own(submission, store, tenant):
    done = submission.submit_pictures(tenant, wish(seed=3), 4)

    jobs = store.get_many([one.job_id for one in done])
    assert jobs[0].request.seed == 3
    assert len({job.request.seed for job in jobs}) == 4


def test_several_pictures_with_one_idempotency_key_are_the_same_ones_again(submission, tenant):
    key = {"idempotency_key": "k", "body_hash": "h"}
    first = submission.submit_pictures(tenant, wish(**key), 3)

    again = submission.submit_pictures(tenant, wish(**key), 3)

    assert [one.job_id for one in again] == [one.job_id for one in first]
    assert all(one.replayed for one in again)


def test_the_tenants_preset_comes_before_the_services(submission, store, tenant):
    job = store.get(submission.submit(replace(tenant, preset="turbo-8"), wish()).job_id)

    assert job.request.preset == "turbo-8"


def test_a_lane_that_is_not_the_tenants_is_refused(submission, tenant):
    with pytest.raises(Forbidden, match="batch"):
        submission.submit(replace(tenant, lanes=(Lane.INTERACTIVE,)), wish(lane=Lane.BATCH))


def test_a_batch_has_the_longer_deadline(submission, store, tenant):
    jobs = [store.get(submission.submit(tenant, wish(lane=lane)).job_id) for lane in Lane]

    assert [job.deadline_ms - job.created_ms for job in jobs] == [3_600_000, 86_400_000]


def test_work_follows_pixels_and_forwards(submission, store, tenant, fake_redis):
    ids = [
        submission.submit(tenant, wish(width=size, height=size, preset=preset)).job_id
        for size, preset in [(1024, "turbo"), (1024, "turbo-8"), (512, "turbo")]
    ]

    assert [float(fake_redis.hget(f"{PREFIX}job:{one}", "work")) for one in ids] == [1.0, 2.0, 0.25]


class Clock:
    """Monotonic seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def since_long(store, settings=None):
    """A service that began two minutes ago."""
    clock = Clock()
    made = Submission(store, settings or Settings(), PROFILE, clock=clock)
    clock.now = 121.0
    return made


def test_without_any_worker_for_long_a_wish_is_refused(store, tenant, fake_redis):
    fake_redis.zadd(f"{PREFIX}workers", {"w": 1})

    with pytest.raises(NoWorker):
        since_long(store).submit(tenant, wish())


def test_a_service_that_starts_again_gives_its_workers_two_minutes(store, tenant, fake_redis):
    fake_redis.hset(f"{PREFIX}heard", "", 1)
    clock = Clock()
    anew = Submission(store, Settings(), PROFILE, clock=clock)

    for clock.now in (0.0, 60.0, 119.0):
        assert anew.submit(tenant, wish()).state is JobState.QUEUED
    clock.now = 130.0
    with pytest.raises(NoWorker):
        anew.submit(tenant, wish())


def test_a_clock_that_was_set_back_hides_no_silence(store, tenant, fake_redis):
    seconds, _ = fake_redis.time()
    fake_redis.hset(f"{PREFIX}heard", "", (seconds + 3_600) * 1000)
    assert since_long(store).submit(tenant, wish()).state is JobState.QUEUED
    fake_redis.hincrby(f"{PREFIX}heard", "", -121_000)

    with pytest.raises(NoWorker):
        since_long(store).submit(tenant, wish())


@pytest.mark.parametrize("labels", [{"aigc_label": "on"}, {"aigc_producer": "shop"}])
def test_a_picture_from_before_the_label_is_no_answer_where_pictures_must_be_labelled(store, tenant, labels):
    first = Submission(store, Settings(), PROFILE).submit(tenant, wish(seed=5))
    same = Submission(store, Settings(), PROFILE).submit(tenant, wish(seed=5))

    labelled = Submission(store, Settings(**labels), PROFILE).submit(tenant, wish(seed=5))

    assert (first.state, same.state) == (JobState.QUEUED, JobState.FOLLOWING)
    assert labelled.state is JobState.QUEUED


@pytest.mark.parametrize("came", [True, False], ids=["said goodbye", "never came"])
def test_two_minutes_after_the_last_goodbye_or_the_first_wish_a_wish_is_refused(store, tenant, fake_redis, came):
    if came:
        store.heartbeat(WorkerInfo(name="w", slots=1))
        store.forget_worker("w")
    else:
        assert since_long(store).submit(tenant, wish()).state is JobState.QUEUED
    fake_redis.hincrby(f"{PREFIX}heard", "", -119_000)
    assert since_long(store).submit(tenant, wish()).state is JobState.QUEUED
    fake_redis.hincrby(f"{PREFIX}heard", "", -2_000)

    with pytest.raises(NoWorker):
        since_long(store).submit(tenant, wish())

    store.heartbeat(WorkerInfo(name="other", slots=1))
    assert since_long(store).submit(tenant, wish()).state is JobState.QUEUED


def test_a_worker_of_an_older_release_counts_though_it_notes_no_time_of_its_own(store, tenant, fake_redis):
    store.heartbeat(WorkerInfo(name="w", slots=1))
    fake_redis.hset(f"{PREFIX}heard", "", 1)

    assert Submission(store, Settings(), PROFILE).submit(tenant, wish()).state is JobState.QUEUED


def test_a_wish_is_refused_where_its_own_models_workers_are_gone_and_no_other(store, tenant, tmp_path):
    (tmp_path / "painter").mkdir()
    (tmp_path / "painter" / "zimg.json").write_text(
        json.dumps(
            {"id": "painter", "revision": "1", "square": [512, 512], "portrait": [432, 576], "landscape": [576, 432]}
        )
    )
    both = Submission(store, Settings(models=(str(tmp_path / "painter"),)), PROFILE)
    for worker, queue in (("w1", ""), ("w2", "painter")):
        store.heartbeat(WorkerInfo(name=worker, slots=1, queue=queue))
    assert both.submit(tenant, wish(model="painter")).state is JobState.QUEUED
    store.redis.zadd(f"{PREFIX}workers", {"w2": 1})
    store.redis.hset(f"{PREFIX}heard", "painter", 1)
    anew = since_long(store, Settings(models=(str(tmp_path / "painter"),)))

    with pytest.raises(NoWorker):
        anew.submit(tenant, wish(model="painter"))
    assert anew.submit(tenant, wish()).state is JobState.QUEUED


def test_where_workers_scale_to_zero_a_wish_is_accepted(store, tenant, fake_redis):
    fake_redis.zadd(f"{PREFIX}workers", {"w": 1})

    done = Submission(store, Settings(min_workers=0), PROFILE).submit(tenant, wish())

    assert done.state is JobState.QUEUED


def test_a_service_that_just_started_accepts_before_its_worker_is_up(submission, tenant):
    assert submission.submit(tenant, wish()).state is JobState.QUEUED


def test_a_double_click_is_one_job_and_a_call_without_a_repeat_key_never(submission, tenant):
    first = submission.submit_pictures(tenant, wish(repeat_key="r"), 2)

    again = submission.submit_pictures(tenant, wish(repeat_key="r"), 2)

    assert [one.job_id for one in again] == [one.job_id for one in first]
    assert submission.submit(tenant, wish()).job_id != submission.submit(tenant, wish()).job_id

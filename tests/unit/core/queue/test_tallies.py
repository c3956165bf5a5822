"""What the scripts count for the metrics, the same for every process."""

import re

from core.job_reader import STAGE_BOUNDS_MS, Tallies
from core.redis_client import PREFIX
from core.scripts import script_texts
from tests.queue_kit import make_picture


def test_an_idle_service_has_counted_nothing(kit):
    assert kit.store.tallies() == Tallies()


def test_jobs_that_share_a_picture_are_counted_once_each(kit):
    kit.succeeded(fingerprint="f")
    kit.queued(fingerprint="f")
    kit.queued(fingerprint="g")
    kit.queued(fingerprint="g")

    assert kit.store.tallies().dedup_hits == 2


def test_the_wait_for_the_first_claim_is_counted_and_no_later_one(kit):
    run = kit.running()
    kit.store.give_back(run.id, run.token)
    kit.claim_again(run.id)

    assert kit.store.tallies().stages["queue"].up_to[-1] == 1


def test_the_queue_counts_from_the_submit(kit):
    release = kit.released()
    created = int(kit.redis.hget(f"{PREFIX}job:{release.job_id}", "created"))
    kit.redis.hset(f"{PREFIX}job:{release.job_id}", "created", created - 40_000)
    kit.claim(release)

    queue = kit.store.tallies().stages["queue"]

    assert (queue.up_to[8], queue.up_to[9]) == (0, 1)  # above 30 s, up to 60 s
    assert 40 <= queue.seconds < 60


def test_what_a_worker_measured_counts_once_with_the_picture_that_was_taken(kit):
    run = kit.running()
    told = {"denoise": 0.3, "upload": 9_000.0}
    stranger = kit.store.complete(run.id, "stranger", make_picture(run.id), told)
    answers = [kit.store.complete(run.id, run.token, make_picture(run.id), told) for _ in range(2)]

    stages = kit.store.tallies().stages

    assert (stranger, answers) == (False, [True, True])
    assert list(stages["denoise"].up_to) == [0, 0, 0] + [1] * 11
    assert (stages["upload"].up_to[-2:], stages["upload"].seconds) == ((0, 1), 9_000.0)


def test_scripts_and_reader_mean_the_same_buckets():
    (bounds,) = re.findall(r"STAGE_BOUNDS_MS = {([^}]*)}", script_texts()["claim"])

    assert tuple(int(one) for one in bounds.split(",")) == STAGE_BOUNDS_MS

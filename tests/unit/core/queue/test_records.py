"""Reading, listing, removing and expiring records; workers; counts."""

import json
from itertools import chain

import pytest

from core.errors import InvalidRequest
from core.job import JobState, Lane, Progress
from core.job_store import TOMBSTONE_SECONDS
from core.redis_client import PREFIX
from core.settings import Settings
from core.trash import TrashBin
from tests.queue_kit import Kit, make_picture


def test_an_unknown_job_reads_as_none(kit):
    job_id = kit.queued()

    assert kit.store.get("no-such-job") is None
    assert [job and job.id for job in kit.store.get_many(["no-such-job", job_id])] == [None, job_id]


def test_what_a_newer_release_wrote_more_is_passed_over(kit):
    run = kit.running()
    kit.store.report_progress(run.id, run.token, Progress(stage="denoise", step=1, steps=4))
    key = f"{PREFIX}job:{run.id}"
    kit.redis.hset(key, "of_tomorrow", "1")
    for name in ("request", "progress"):
        kit.redis.hset(key, name, json.dumps({**json.loads(kit.redis.hget(key, name)), "of_tomorrow": [1]}))

    assert kit.job(run.id).progress == Progress(stage="denoise", step=1, steps=4)

    assert kit.complete(run)
    kit.redis.hset(key, "picture", json.dumps({**json.loads(kit.redis.hget(key, "picture")), "of_tomorrow": 1}))
    kit.redis.hset(key, "failure", json.dumps({"code": "a", "message": "b", "of_tomorrow": 1}))
    job = kit.job(run.id)
    assert (job.request.prompt, job.picture) == ("a red mug", make_picture(run.id))


def test_jobs_are_listed_newest_first_in_pages(kit):
    ids = [kit.queued() for _ in range(5)]
    kit.queued(tenant="b")

    first = kit.store.list_jobs("a", limit=2)
    rest = kit.store.list_jobs("a", before=first[-1].id, limit=10)

    assert [job.id for job in first + rest] == ids[::-1]


@pytest.mark.parametrize("states", [None, {JobState.QUEUED}])
def test_the_last_page_of_a_long_list_is_read_too(kit, monkeypatch, states):
    """One call looks at so many records at most; the next one goes on from there."""
    monkeypatch.setattr("core.job_pages.SCANNED_MOST", 3)
    ids = [kit.queued() for _ in range(8)]

    page = kit.store.list_jobs("a", states=states, before=ids[2], limit=2)

    assert [job.id for job in page] == [ids[1], ids[0]]


def test_jobs_are_listed_by_state(kit):
    kit.queued()
    done = kit.succeeded()

    assert [job.id for job in kit.store.list_jobs("a", states={JobState.SUCCEEDED})] == [done]


def test_jobs_are_listed_by_batch_and_never_another_tenants(kit):
    kit.queued()
    job_id = kit.queued(batch_id="b1", lane=Lane.BATCH)

    assert [job.id for job in kit.store.list_jobs("a", batch_id="b1")] == [job_id]
    assert kit.store.list_jobs("b", batch_id="b1") == []


def test_a_page_goes_on_behind_a_job_that_was_removed_meanwhile(kit):
    ids = [kit.succeeded() for _ in range(5)]
    page = kit.store.list_page("a", limit=2)
    kit.store.remove(page.jobs[-1].id)

    rest = kit.store.list_page("a", after=page.cursor, limit=10)

    assert ([job.id for job in rest.jobs], rest.cursor) == (ids[2::-1], "")


@pytest.mark.parametrize("cursor", ["no-such-job", "0" * 32, "1-2", "x-" + "0" * 32])
def test_a_cursor_of_nobodys_is_refused(kit, cursor):
    kit.queued()

    with pytest.raises(InvalidRequest) as refused:
        kit.store.list_page("a", after=cursor)

    assert refused.value.field == "cursor"


def pages_of(kit, **more):
    """The ids of every page, as the cursors lead."""
    pages, cursor = [], ""
    while len(pages) < 20:
        page = kit.store.list_page("a", after=cursor, **more)
        pages, cursor = [*pages, [job.id for job in page.jobs]], page.cursor
        if not cursor:
            break
    return pages


def test_a_page_that_looked_at_its_portion_ends_with_a_cursor(kit, monkeypatch):
    monkeypatch.setattr("core.job_pages.SCANNED_MOST", 3)
    monkeypatch.setattr("core.job_pages.READ_AT_ONCE", 2)
    done = kit.succeeded()
    for _ in range(8):
        kit.queued()

    assert pages_of(kit, states={JobState.SUCCEEDED}, limit=5) == [[], [], [done]]


def test_jobs_of_one_score_are_listed_once_each(kit, monkeypatch):
    """The rows of a batch may have one place, where rows before them were removed."""
    monkeypatch.setattr("core.job_pages.READ_AT_ONCE", 1)
    ids = [kit.queued() for _ in range(7)]
    kit.redis.zadd("{zimg}:jobs:a", dict.fromkeys(ids[1:6], 5.0))

    assert list(chain(*pages_of(kit, limit=1))) == [ids[6], ids[0], *sorted(ids[1:6], reverse=True)]


def test_ids_of_some_states_are_listed_behind_any_number_of_others(kit, monkeypatch):
    monkeypatch.setattr("core.job_pages.READ_AT_ONCE", 2)
    ended = [kit.succeeded() for _ in range(4)]
    waiting = [kit.queued() for _ in range(2)]
    kit.redis.zadd("{zimg}:jobs:a", {waiting[0]: 1.0, waiting[1]: 2.0})
    found, cursor = [], ""
    while page := kit.store.list_ids("a", states={JobState.QUEUED}, after=cursor):
        found, cursor = [*found, *page.ids], page.cursor
        kit.store.remove(ended[-1])
        if not cursor:
            break

    assert found == waiting[::-1]


@pytest.mark.parametrize("limit", [1, 2, 3, 4])
def test_each_job_is_on_one_page_and_the_last_page_has_no_cursor(kit, limit):
    ids = [kit.queued() for _ in range(4)]

    pages = pages_of(kit, limit=limit)

    assert list(chain(*pages)) == ids[::-1]
    assert pages[-1] != []


def test_a_batch_counts_its_ends(kit):
    kit.succeeded(batch_id="b1")
    kit.dead(batch_id="b1")
    kit.store.cancel(kit.queued(batch_id="b1"))
    kit.queued(batch_id="b1")

    counts = kit.store.get_batch("b1")

    assert (counts.total, counts.succeeded, counts.dead, counts.canceled, counts.open) == (4, 1, 1, 1, 1)
    assert kit.store.get_batch("no-such-batch") is None


def test_a_removed_job_is_gone_and_known_to_have_been(kit):
    job_id = kit.succeeded(batch_id="b1")

    assert kit.store.remove(job_id)

    assert (kit.store.get(job_id), kit.store.was_removed(job_id)) == (None, True)
    assert kit.store.list_jobs("a") == []
    assert kit.redis.zrange(f"{PREFIX}trash", 0, -1) == [make_picture(job_id).key]
    assert 0 < kit.redis.ttl(f"{PREFIX}tombstone:{job_id}") <= TOMBSTONE_SECONDS
    assert [key for key in kit.redis.scan_iter(f"{PREFIX}*") if job_id in key] == [f"{PREFIX}tombstone:{job_id}"]


def test_a_batch_keeps_its_counts_until_its_last_job_is_removed(kit):
    first, last = kit.succeeded(batch_id="b1"), kit.dead(batch_id="b1")

    kit.store.remove(first)
    counts = kit.store.get_batch("b1")
    assert (counts.total, counts.succeeded, counts.dead) == (2, 1, 1)

    kit.store.remove(last)
    assert kit.store.get_batch("b1") is None
    assert not kit.redis.exists(f"{PREFIX}batch:b1", f"{PREFIX}batch_jobs:b1")


def test_the_events_of_an_ended_job_are_kept_for_an_hour(kit):
    canceled = kit.queued()
    kit.store.cancel(canceled)

    for job_id in (kit.succeeded(), kit.dead(), canceled):
        assert 3_500_000 < kit.redis.pttl(f"{PREFIX}ev:{job_id}") <= 3_600_000


def test_a_job_keeps_no_more_than_its_last_64_events(kit):
    run = kit.running()
    for step in range(100):
        kit.store.report_progress(run.id, run.token, Progress(stage="denoise", step=step, steps=100))

    events = kit.events(run.id)

    assert (len(events), json.loads(events[-1][1])["step"]) == (64, 99)


def test_the_fingerprint_of_a_picture_is_forgotten_with_it(kit):
    kit.succeeded(fingerprint="f", retention_seconds=1000)

    assert 900_000 < kit.redis.pttl(f"{PREFIX}fp:a:f") <= 1_000_000


def test_a_job_that_has_not_ended_is_not_removed(kit):
    job_id = kit.queued()

    assert not kit.store.remove(job_id)
    assert kit.state(job_id) is JobState.QUEUED


def test_removing_twice_changes_nothing(kit):
    job_id = kit.succeeded()
    kit.store.remove(job_id)
    before = kit.snapshot()

    assert kit.store.remove(job_id)
    assert kit.snapshot() == before


def test_an_unknown_job_was_not_removed(kit):
    assert not kit.store.remove("no-such-job")
    assert not kit.store.was_removed("no-such-job")


def test_a_picture_past_its_retention_says_so_before_its_object_goes(kit):
    job_id = kit.succeeded()
    kit.let_run_out("pictures", job_id)

    assert kit.store.expire(10) == (1, [])

    assert (kit.state(job_id), kit.job(job_id).picture_removed) == (JobState.SUCCEEDED, True)
    assert kit.redis.zrange(f"{PREFIX}trash", 0, -1) == [make_picture(job_id).key]
    assert kit.store.expire(10) == (0, [])


def test_between_its_expiry_and_the_sweep_a_picture_counts_as_removed(kit):
    expired, kept = kit.succeeded(), kit.succeeded()
    seconds, _ = kit.redis.time()
    kit.redis.hset(f"{PREFIX}job:{expired}", "expires", int(seconds) * 1000)
    kit.redis.hset(f"{PREFIX}job:{kept}", "expires", (int(seconds) + 100) * 1000)

    jobs = kit.store.get_many([expired, kept, kit.queued()])

    assert [job.picture_removed for job in jobs] == [True, False, False]
    assert [job.picture_removed for job in kit.store.list_jobs("a", states={JobState.SUCCEEDED})] == [False, True]


def test_an_entry_of_a_record_that_is_gone_is_due_once(kit):
    kit.redis.zadd(f"{PREFIX}records", {"no-such-job": 1})
    assert kit.store.expire(10) == (0, ["no-such-job"])

    kit.store.remove("no-such-job")

    assert kit.store.expire(10) == (0, [])


def test_a_picture_is_kept_as_long_as_its_job_asked(kit):
    job_id = kit.succeeded(retention_seconds=100)

    job = kit.job(job_id)
    assert job.expires_ms == pytest.approx(job.finished_ms + 100_000, abs=100)
    assert kit.store.expire(10) == (0, [])


def test_a_record_is_due_after_its_own_retention(queue_redis):
    kit = Kit(queue_redis, Settings(record_retention_seconds=100))
    job_id = kit.succeeded()
    finished_ms = kit.job(job_id).finished_ms
    assert kit.redis.zscore(f"{PREFIX}records", job_id) == pytest.approx(finished_ms + 100_000, abs=100)
    kit.let_run_out("records", job_id)

    assert kit.store.expire(10) == (0, [job_id])


def test_no_picture_is_promised_for_longer_than_its_record_is_kept(queue_redis):
    """The object goes with the record, so its record must not say a later day."""
    kit = Kit(queue_redis, Settings(record_retention_seconds=100))
    job = kit.job(kit.succeeded(retention_seconds=3_600))

    assert job.expires_ms == pytest.approx(job.finished_ms + 100_000, abs=100)


def test_the_trash_spares_objects_that_another_record_shows(kit):
    bin_ = TrashBin(kit.redis, lambda tenant, job_id, _created: f"{tenant}/{job_id}")
    kit.redis.zadd(
        f"{PREFIX}trash", {"a/shown.png": 1, "a/gone.png": 1, "job:j1:1700000000000:a": 1, "a/not-yet": 9e15}
    )
    kit.redis.sadd(f"{PREFIX}ref:a/shown.png", "j2")

    due = bin_.due(10)
    bin_.forget(due)

    assert sorted(one.key for one in due) == ["a/gone.png", "a/j1"]
    assert kit.redis.zrange(f"{PREFIX}trash", 0, -1) == ["a/not-yet"]


def test_a_worker_is_listed_with_what_it_said(kit):
    kit.add_worker("w2", slots=4, host="h", model="m", device="cuda:0", started_ms=5, gauges={"jobs_in_flight": 2.0})

    worker = next(one for one in kit.store.live_workers() if one.name == "w2")

    assert (worker.slots, worker.host, worker.device, worker.started_ms) == (4, "h", "cuda:0", 5)
    assert worker.gauges == {"jobs_in_flight": 2.0}
    assert worker.heartbeat_ms > 0


def test_a_silent_or_forgotten_worker_is_not_listed(kit):
    kit.add_worker("w2", slots=1)
    kit.redis.zadd(f"{PREFIX}workers", {"w2": 1})
    kit.store.forget_worker("w1")

    assert kit.store.live_workers() == []


def test_the_depth_counts_every_kind(kit):
    kit.queued(lane=Lane.BATCH)
    kit.store.pause("lane", "batch")
    kit.released()
    kit.running()
    kit.waiting_to_retry()
    kit.dead()
    kit.succeeded()
    kit.queued()

    depth = kit.store.depth()

    assert depth.waiting == {"interactive": 1, "batch": 1}
    assert (depth.released, depth.running, depth.retrying, depth.dead_letters) == (1, 1, 1, 1)
    assert (depth.workers, depth.worker_slots) == (1, 1000)
    assert depth.outcomes == {"DEAD": 1, "SUCCEEDED": 1}


def test_the_oldest_waiting_job_is_seen_even_in_a_parked_queue(kit):
    job_id = kit.queued(lane=Lane.BATCH)
    kit.store.pause("lane", "batch")
    kit.store.release(1)
    seconds, _ = kit.redis.time()
    kit.redis.hset(f"{PREFIX}job:{job_id}", "created", (int(seconds) - 100) * 1000)

    assert kit.store.depth().oldest_waiting_seconds == pytest.approx(100, abs=3)

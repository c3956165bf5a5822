"""A list that is gone says so (410), as a job does: it never reads as done with nothing in it, nor as unknown."""

import pytest

from core.batch_store import BatchStore
from core.redis_client import PREFIX
from scheduler.dead_letters import DeadLetters
from tests.integration.api.test_batches import send
from tests.integration.api.test_lists_again import pass_hours

KEY = {"Idempotency-Key": "upload-1"}
DAY = 86_400


def answers(http, batch_id):
    """Status and code of both ways to look at a list."""
    both = [http.get(f"/v1/batches/{batch_id}{rest}") for rest in ("", "/manifest.csv")]
    return [(one.status_code, (one.json or {}).get("code")) for one in both]


def delete_pictures(http, parts, batch_id):
    for job_id in parts.jobs.batch_job_ids(batch_id):
        assert http.delete(f"/v1/jobs/{job_id}").status_code == 204


def test_a_list_whose_pictures_were_all_deleted_is_gone(http, worker, parts):
    batch_id = send(http).json["id"]
    worker.draw_all()

    delete_pictures(http, parts, batch_id)

    assert answers(http, batch_id) == [(410, "gone")] * 2


def test_a_list_of_which_a_picture_is_left_is_shown(http, worker, parts):
    batch_id = send(http).json["id"]
    worker.draw_all()

    for job_id in parts.jobs.batch_job_ids(batch_id)[1:]:
        http.delete(f"/v1/jobs/{job_id}")

    assert answers(http, batch_id) == [(200, None)] * 2


def test_a_list_whose_sheet_ran_out_is_gone_and_an_unknown_one_is_not_found(http, worker, valkey):
    batch_id = send(http).json["id"]

    valkey.delete(f"{PREFIX}sheet:{batch_id}")

    assert answers(http, batch_id) == [(410, "gone")] * 2
    assert answers(http, "batch_" + "0" * 24) == [(404, "not_found")] * 2


def test_anothers_list_that_is_gone_is_not_found(http, worker, parts, valkey):
    batch_id = send(http).json["id"]
    valkey.delete(f"{PREFIX}sheet:{batch_id}")

    assert parts.batches.was_known(batch_id, "local")
    assert not parts.batches.was_known(batch_id, "another")


def test_a_refused_list_was_never_there(http, worker, parts, valkey):
    parts.tenants.change("local", {"daily_units": 6})
    send(http)
    before = set(valkey.scan_iter("*batch_*"))

    refused = send(http, headers=KEY)

    assert (refused.status_code, refused.json["code"]) == (429, "quota_exceeded")
    assert {key for key in set(valkey.scan_iter("*batch_*")) - before if ":list:" not in key} == set()


def test_a_list_sent_again_after_all_of_it_was_deleted_stays_gone(http, worker, parts):
    batch_id = send(http, headers=KEY).json["id"]
    worker.draw_all()
    delete_pictures(http, parts, batch_id)

    assert send(http, headers=KEY).status_code == 410
    assert answers(http, batch_id) == [(410, "gone")] * 2


def test_the_lists_of_who_deleted_all_of_ones_data_are_gone(http, worker, parts, valkey):
    batch_id = send(http).json["id"]
    worker.draw_all()

    assert http.delete("/v1/account/data?confirm=local").status_code == 200

    assert list(valkey.scan_iter("*:sheet:*")) == []
    assert answers(http, batch_id) == [(410, "gone")] * 2


def test_a_list_is_kept_for_longer_than_the_records_of_its_jobs(http, worker, parts, valkey):
    """Their time begins at their end, which is at most a deadline later, or two where others follow."""
    batch_id = send(http).json["id"]

    settings = parts.settings
    latest_end = settings.record_retention_seconds + 2 * settings.batch_deadline_seconds
    assert valkey.ttl(f"{PREFIX}sheet:{batch_id}") > latest_end


@pytest.mark.parametrize("how", ["sent again", "a dead letter is tried again"])
def test_a_list_lives_longer_when_a_job_is_added_to_it_later(http, worker, parts, valkey, how):
    batch_id = send(http, headers=KEY).json["id"]
    lease = worker.claim()[0]
    worker.fail(lease)
    sheet = f"{PREFIX}sheet:{batch_id}"
    valkey.hset(f"{PREFIX}batch:{batch_id}", "expected", 7 if how == "sent again" else 6)
    valkey.expire(sheet, DAY)

    if how == "sent again":
        send(http, headers=KEY)
    else:
        letters = DeadLetters(parts.jobs, parts.settings)
        assert letters.requeue(lease.job_id, parts.tenants.local())

    assert valkey.ttl(sheet) > parts.settings.record_retention_seconds


def test_the_key_of_a_deleted_list_is_free_after_its_time_however_often_it_is_sent(http, worker, parts, valkey):
    """As a single job's is: a day later the list can be drawn anew under the same key."""
    first = send(http, headers=KEY).json["id"]
    worker.draw_all()
    delete_pictures(http, parts, first)
    pass_hours(valkey, 20)
    assert send(http, headers=KEY).status_code == 410
    pass_hours(valkey, 6)

    again = send(http, headers=KEY)

    assert (again.status_code, again.json["request_counts"]["total"]) == (202, 6)
    assert again.json["id"] != first


def test_a_list_of_an_older_release_is_found_as_before(http, worker, parts, valkey):
    """That kept no mark of it: after its time it is not found, and its life can be lengthened all the same."""
    batch_id = send(http).json["id"]
    valkey.delete(f"{PREFIX}known_list:{batch_id}")

    BatchStore(valkey, parts.settings).lengthen(batch_id, "local")

    assert answers(http, batch_id) == [(200, None)] * 2
    valkey.delete(f"{PREFIX}sheet:{batch_id}")
    assert answers(http, batch_id) == [(404, "not_found")] * 2


def test_a_list_keeps_its_sheet_though_the_same_was_refused_while_it_was_being_stored(http, worker, parts, monkeypatch):
    """Sent twice at once, with one key and so one id; the one that was refused first took the other's sheet away."""
    store = parts.submission.submit_many

    def refused_meanwhile(tenant, wishes, **more):
        parts.batches.forget(wishes[0].batch_id, tenant.name)
        done = store(tenant, wishes, **more)
        parts.batches.forget(wishes[0].batch_id, tenant.name)  # and one that was late
        return done

    monkeypatch.setattr(parts.submission, "submit_many", refused_meanwhile)
    taken = send(http, headers=KEY)

    assert taken.status_code == 202
    assert answers(http, taken.json["id"]) == [(200, None)] * 2


def test_a_refusal_that_comes_late_takes_no_stored_list_away(http, worker, parts):
    batch_id = send(http, headers=KEY).json["id"]

    parts.batches.forget(batch_id, "local")

    assert answers(http, batch_id) == [(200, None)] * 2

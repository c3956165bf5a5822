"""The delivery log goes on behind a delivery that left it meanwhile."""

from dataclasses import replace

import pytest

from core.webhook_store import Attempt
from tests.integration.api.webhook_kit import (  # noqa: F401 - the fixtures
    add,
    allowing_fixture,
    http_fixture,
    receiver_fixture,
)


@pytest.fixture(name="failed")
def failed_fixture(http, receiver, allowing):
    """An endpoint with seven deliveries that failed for good; gives the path of its log and their ids, newest first."""
    hook, store = add(http, receiver.url), allowing.webhooks
    endpoint, ids = store.endpoint(hook["id"]), []
    for number in range(7):
        one = store.enqueue(endpoint, {"id": f"evt_{number}", "type": "job.succeeded"})
        tried = (Attempt(at_ms=one.created_ms, status=500, duration_ms=1),)
        store.record(replace(one, state="failed", attempts=tried))
        ids.append(one.id)
    return f"/v1/webhooks/{hook['id']}/deliveries", ids[::-1]


def test_what_failed_goes_on_when_a_whole_page_of_it_was_sent_again(http, failed):
    path, ids = failed
    seen, cursor = [], ""
    while cursor is not None:
        page = http.get(f"{path}?status=failed&limit=3" + (f"&cursor={cursor}" if cursor else "")).json
        for one in page["data"]:
            seen.append(one["id"])
            assert http.post(f"{path}/{one['id']}/resend").status_code == 202
        cursor = page["next_cursor"]

    assert sorted(seen) == sorted(ids)


@pytest.mark.parametrize("query", ["", "status=failed&"])
def test_a_cursor_that_this_log_never_had_is_refused_by_name(http, failed, query):
    answer = http.get(f"{failed[0]}?{query}cursor=whd_{'0' * 32}")

    assert (answer.status_code, answer.json["field"]) == (400, "cursor")


def test_deliveries_of_one_moment_are_listed_once_each(http, failed, valkey):
    path, ids = failed
    (log,) = valkey.keys("{zimg}:hook_log:*")
    valkey.zadd(log, dict.fromkeys(ids, 5.0))
    seen, cursor = [], ""
    while cursor is not None:
        page = http.get(f"{path}?limit=2" + (f"&cursor={cursor}" if cursor else "")).json
        seen, cursor = seen + [one["id"] for one in page["data"]], page["next_cursor"]

    assert seen == sorted(ids, reverse=True)

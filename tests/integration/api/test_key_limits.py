"""A key with limits of its own: made, shown, kept to, told and carried over when the key is replaced."""

import itertools
import json
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from core.redis_client import PREFIX
from scheduler.keys import KEY_ID_CHARACTERS
from tests.integration.api.conftest import live_api
from tests.integration.api.test_command import zimg  # noqa: F401 - a fixture

ADMIN = {"Authorization": "Bearer the-operators-own-key"}
NUMBERS = itertools.count()


def make(keyed, **more):
    answer = keyed.post("/v1/keys", json={"tenant": "t1", **more}, headers=ADMIN)
    assert answer.status_code == 201, answer.json
    return answer.json


def ask(keyed, key, **more):
    """A picture unlike all others: the same one again at once would be a double click."""
    body = {"prompt": f"mug number {next(NUMBERS)}", "size": "256x256", **more}
    return keyed.post("/v1/jobs", json=body, headers={"Authorization": f"Bearer {key['key']}"})


def test_a_key_is_shown_with_its_own_limits(keyed):
    made, plain = make(keyed, daily_units=3, burst=2), make(keyed)

    listed = {
        one["id"]: (one["daily_units"], one["burst"]) for one in keyed.get("/v1/keys", headers=ADMIN).json["data"]
    }
    own = keyed.get("/v1/account", headers={"Authorization": f"Bearer {made['key']}"}).json["key"]

    assert listed == {made["id"]: (3, 2), plain["id"]: (None, None)}
    assert (own["daily_units"], own["burst"]) == (3, 2)


def test_a_key_is_kept_to_its_own_limit_and_its_tenants_other_keys_are_not(keyed, worker):
    bounded, plain = make(keyed, daily_units=3), make(keyed)
    taken = [ask(keyed, bounded).status_code for _ in range(3)]

    refused = ask(keyed, bounded)

    assert taken == [202] * 3
    assert (refused.status_code, refused.json["code"]) == (429, "quota_exceeded")
    assert "This key's pictures of the day (3)" in refused.json["detail"]
    assert int(refused.headers["Retry-After"]) > 0
    assert ask(keyed, plain).status_code == 202


def test_the_limits_that_are_told_are_the_keys_where_they_are_tighter(keyed, worker):
    bounded, plain = make(keyed, daily_units=3), make(keyed)

    answer, other = ask(keyed, bounded), ask(keyed, plain)
    usage = keyed.get("/v1/usage", headers={"Authorization": f"Bearer {bounded['key']}"}).json

    assert '"daily";q=3;' in answer.headers["RateLimit-Policy"]
    assert '"daily";r=2;' in answer.headers["RateLimit"]
    assert answer.headers["x-ratelimit-remaining-requests"] == "2"
    assert '"daily";q=3;' not in other.headers["RateLimit-Policy"]
    assert (usage["daily_limit"], usage["daily_remaining"]) == (3, 2)


def test_a_call_of_more_than_the_key_may_ever_draw_says_how_many_fit(keyed, worker):
    refused = ask(keyed, make(keyed, daily_units=3), n=4)

    assert (refused.status_code, refused.json["code"]) == (400, "exceeds_limits")
    assert "this key may draw 3 a day; send at most 3 at once" in refused.json["detail"]


def test_a_key_has_a_burst_of_its_own(keyed, worker):
    keyed.patch("/v1/admin/tenants/t1", json={"burst_per_second": 0.01, "burst": 10}, headers=ADMIN)
    bounded, plain = make(keyed, burst=1), make(keyed)
    first = ask(keyed, bounded)

    refused = ask(keyed, bounded)

    assert keyed.get("/v1/usage", headers={"Authorization": f"Bearer {bounded['key']}"}).json["burst"] == 1
    assert '"burst";q=1;' in first.headers["RateLimit-Policy"]
    assert (refused.status_code, refused.json["code"]) == (429, "rate_limit_exceeded")
    assert 90 < int(refused.headers["Retry-After"]) <= 100
    assert ask(keyed, plain).status_code == 202


def test_a_keys_burst_is_told_where_its_account_has_no_limit_a_second(keyed, worker, valkey):
    keyed.patch("/v1/admin/tenants/t1", json={"burst_per_second": 0}, headers=ADMIN)
    bounded, plain = make(keyed, burst=2), make(keyed)
    first = ask(keyed, bounded)
    far_ms = (int(valkey.time()[0]) + 61) * 1000  # used up for so long that it does not come back meanwhile
    valkey.set(f"{PREFIX}gcra:t1/{bounded['id'][:KEY_ID_CHARACTERS]}", far_ms)

    refused = ask(keyed, bounded)

    assert '"burst";q=2;w=1;' in first.headers["RateLimit-Policy"]
    assert re.search(r'"burst";r=[12];t=[01],', first.headers["RateLimit"])
    assert (refused.status_code, refused.json["code"]) == (429, "rate_limit_exceeded")
    resets = re.search(r'"burst";r=0;t=(\d+),', refused.headers["RateLimit"])
    assert 50 < int(resets[1]) <= int(refused.headers["Retry-After"]) <= 61
    usage = keyed.get("/v1/usage", headers={"Authorization": f"Bearer {bounded['key']}"}).json
    assert (usage["burst"], usage["burst_per_second"]) == (2, 2)
    assert '"burst"' not in ask(keyed, plain).headers["RateLimit"]


def test_a_replaced_key_goes_on_with_what_the_old_one_used(keyed, worker):
    old = make(keyed, daily_units=3)
    ask(keyed, old)
    new = keyed.post(f"/v1/admin/keys/{old['id']}/rotate", json={}, headers=ADMIN).json
    ask(keyed, new)
    newer = keyed.post(f"/v1/admin/keys/{new['id']}/rotate", json={}, headers=ADMIN).json

    last, refused = ask(keyed, newer), ask(keyed, newer)

    assert (new["daily_units"], newer["daily_units"]) == (3, 3)
    assert (last.status_code, refused.status_code) == (202, 429)


def test_what_is_canceled_comes_back_to_the_key(keyed, worker):
    key = make(keyed, daily_units=1)
    job = ask(keyed, key).json
    headers = {"Authorization": f"Bearer {key['key']}"}

    keyed.post(f"/v1/jobs/{job['id']}/cancel", headers=headers)

    assert ask(keyed, key).status_code == 202


@pytest.mark.parametrize("limit", ["daily_units", "burst"])
def test_a_limit_above_its_accounts_is_refused(keyed, limit):
    keyed.patch("/v1/admin/tenants/t1", json={limit: 5}, headers=ADMIN)

    refused = keyed.post("/v1/keys", json={"tenant": "t1", limit: 6}, headers=ADMIN)

    assert (refused.status_code, refused.json["field"]) == (400, limit)
    assert make(keyed, **{limit: 5})[limit] == 5


@pytest.mark.parametrize("wrong", [{"daily_units": -1}, {"burst": 0}, {"daily_units": 1.5}, {"daily_units": "3"}])
def test_a_limit_that_is_none_is_refused(keyed, wrong):
    assert keyed.post("/v1/keys", json={"tenant": "t1", **wrong}, headers=ADMIN).status_code == 400


def test_a_key_that_may_draw_nothing_looks_only(keyed, worker):
    key = make(keyed, daily_units=0)

    assert ask(keyed, key).status_code == 400
    assert keyed.get("/v1/jobs", headers={"Authorization": f"Bearer {key['key']}"}).status_code == 200


def test_a_key_without_limits_has_no_counters_of_its_own(keyed, worker, valkey):
    ask(keyed, make(keyed))

    assert [key for key in valkey.scan_iter(f"{PREFIX}use:*") if "/" in key] == []


def test_a_burst_of_calls_at_once_takes_no_more_than_the_key_may(keyed, worker):
    key = make(keyed, daily_units=3)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ask(keyed.application.test_client(), key).status_code, range(16)))

    assert sorted(answers) == [202] * 3 + [429] * 13


def test_the_command_makes_a_key_with_limits_of_its_own(settings, zimg, tmp_path):  # noqa: F811
    with live_api(settings, tmp_path, ZIMG_HOST="0.0.0.0", ZIMG_ADMIN_KEY="the-operators-own-key") as api:
        environ = {"ZIMG_URL": api.url, "ZIMG_ADMIN_KEY": "the-operators-own-key"}
        code, made, _ = zimg("keys", "create", "shop", "--daily-units", "3", "--burst", "2", "--json", **environ)
        refused, _, _ = zimg("keys", "create", "shop", "--burst", "0", **environ)

    assert (code, json.loads(made)["daily_units"], json.loads(made)["burst"]) == (0, 3, 2)
    assert refused != 0

"""The operator's API, of the service: traffic, the overview, the order of the queue, dead letters, webhook failures."""

import time
from dataclasses import replace
from io import BytesIO

import pytest

from api import admin_service
from api.app import create_app
from core.job import Failure
from core.redis_client import PREFIX
from core.webhook_store import Attempt, Endpoint
from core.workers import WorkerInfo
from scheduler.traffic import Flow, Kind, Traffic
from tests.integration.api.conftest import use_up
from tests.integration.api.test_admin import admin
from tests.integration.api.test_auth import BODY, make_key


def flow(client, kind, name, state):
    answer = admin(client, "PUT", f"traffic/{kind}/{name}", {"state": state})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(("kind", "name"), [("lane", "interactive"), ("tenant", "shop")])
def test_what_is_paused_takes_work_in_and_draws_it_after_the_resume(keyed, worker, kind, name):
    mine, _ = make_key(keyed)
    flow(keyed, kind, name, "paused")
    accepted = keyed.post("/v1/jobs", json=BODY, headers=mine).status_code
    while_paused = worker.draw_all()
    flow(keyed, kind, name, "open")

    assert (accepted, while_paused, len(worker.draw_all())) == (202, {}, 1)


@pytest.mark.parametrize(("kind", "name"), [("lane", "interactive"), ("tenant", "shop")])
def test_what_drains_takes_no_work_in_and_draws_what_it_has(keyed, worker, kind, name):
    mine, _ = make_key(keyed)
    keyed.post("/v1/jobs", json=BODY, headers=mine)
    flow(keyed, kind, name, "draining")
    refused = keyed.post("/v1/jobs", json={**BODY, "prompt": "something new"}, headers=mine)

    assert keyed.post("/v1/jobs", json=BODY, headers=mine).status_code == 202  # a double click: it was taken in before
    assert (refused.status_code, refused.json["code"]) == (503, "draining")
    assert int(refused.headers["Retry-After"]) > 0
    assert len(worker.draw_all()) == 1
    flow(keyed, kind, name, "open")
    assert keyed.post("/v1/jobs", json=BODY, headers=mine).status_code == 202


def test_a_draining_batch_lane_refuses_product_lists_alone(keyed, worker):
    mine, _ = make_key(keyed)
    flow(keyed, "lane", "batch", "draining")

    assert keyed.post("/v1/batches", headers=mine).json["code"] == "draining"
    assert keyed.post("/v1/jobs", json=BODY, headers=mine).status_code == 202


def test_a_list_that_was_taken_before_a_drain_is_answered_again_by_its_key(keyed, worker):
    mine, _ = make_key(keyed)

    def send(key):
        own = {**mine, "Idempotency-Key": key}
        return keyed.post("/v1/batches", headers=own, data={"file": (BytesIO(b"sku,name\n1,red mug\n"), "list.csv")})

    first = send("one")
    flow(keyed, "lane", "batch", "draining")
    again, other = send("one"), send("two")

    assert (first.status_code, again.status_code, other.status_code) == (202, 202, 503)
    assert (again.json["id"], again.headers["Idempotency-Replayed"]) == (first.json["id"], "true")
    assert other.json["code"] == "draining"


def test_a_draining_worker_takes_nothing_more_and_ends_what_it_holds(keyed, worker):
    mine, _ = make_key(keyed)
    keyed.post("/v1/jobs", json=BODY, headers=mine)
    (lease,) = worker.claim()
    flow(keyed, "worker", worker.name, "draining")
    keyed.post("/v1/jobs", json={**BODY, "prompt": "b"}, headers=mine)

    (shown,) = admin(keyed, "GET", "overview").json["workers"]
    assert (shown["state"], [job["id"] for job in shown["jobs"]]) == ("draining", [lease.job_id])
    assert worker.claim() == []
    worker.finish(lease)
    assert admin(keyed, "GET", "overview").json["workers"][0]["jobs"] == []
    flow(keyed, "worker", worker.name, "open")
    assert len(worker.draw_all()) == 1


@pytest.mark.parametrize(
    ("path", "body", "status", "field"),
    [
        ("traffic/lane/fast", {"state": "paused"}, 400, "name"),
        ("traffic/lane/batch", {"state": "slow"}, 400, "state"),
        ("traffic/planet/earth", {"state": "paused"}, 400, "kind"),
        ("traffic/worker/nobody", {"state": "paused"}, 404, None),
        ("traffic/tenant/tpyo", {"state": "paused"}, 404, None),
        ("traffic/tenant/tpyo", {"state": "draining"}, 404, None),
        ("traffic/tenant/TYPO", {"state": "paused"}, 404, None),
    ],
)
def test_a_pause_of_what_can_not_be_paused_is_refused(keyed, parts, path, body, status, field):
    answer = admin(keyed, "PUT", path, body)

    assert (answer.status_code, answer.json.get("field")) == (status, field)
    assert answer.json["code"] == ("out_of_range" if status == 400 else "not_found")
    assert admin(keyed, "GET", "traffic").json["data"] == []


@pytest.mark.parametrize("name", ["local", "admin", "cafe"])
def test_a_tenant_that_is_there_can_be_paused_before_its_first_job(keyed, parts, name):
    parts.tenants.create_key("cafe")

    flow(keyed, "tenant", name, "paused")

    assert [one["name"] for one in admin(keyed, "GET", "traffic").json["data"]] == [name]


def test_what_a_stop_of_a_tenant_left_behind_can_be_taken_away(keyed, parts):
    Traffic(parts.jobs).set(Kind.TENANT, "gone", Flow.DRAINING)

    flow(keyed, "tenant", "gone", "open")

    assert admin(keyed, "GET", "traffic").json["data"] == []


def test_the_overview_shows_queue_tenants_workers_and_plan(keyed, parts, worker):
    mine, _ = make_key(keyed)
    keyed.post("/v1/jobs", json={**BODY, "n": 3}, headers=mine)
    lease = worker.claim()[0]
    worker.step(lease, 2)
    parts.jobs.heartbeat(
        WorkerInfo(
            name=worker.name,
            slots=8,
            device="cuda:0",
            plan="ring 2 x 0.32 GiB",
            gauges={"gpu_memory_used_bytes": 3.0, "gpu_memory_total_bytes": 4.0},
        )
    )
    keyed.post("/v1/jobs", json={**BODY, "n": 2}, headers=mine)
    flow(keyed, "lane", "batch", "paused")

    seen = admin(keyed, "GET", "overview").json

    assert seen["queue"]["lanes"] == [
        {"lane": "interactive", "waiting": 2, "state": "open"}, {"lane": "batch", "waiting": 0, "state": "paused"}
    ]  # fmt: skip
    assert seen["queue"]["tenants"] == [{"tenant": "shop", "interactive": 2, "batch": 0, "running": 3, "state": "open"}]
    (shown,) = seen["workers"]
    assert (shown["gpu_memory_used_bytes"], shown["gpu_memory_total_bytes"]) == (3, 4)
    assert shown["plan"] == "ring 2 x 0.32 GiB"
    (job,) = [job for job in shown["jobs"] if job["id"] == lease.job_id]
    assert (job["tenant"], job["stage"], job["step"], job["steps"]) == ("shop", "denoise", 2, 4)
    assert seen["stopped"] == [{"kind": "lane", "name": "batch", "state": "paused"}]


def test_when_a_worker_was_heard_of_last_is_told_by_the_servers_clock(keyed, worker, monkeypatch):
    monkeypatch.setattr(time, "time_ns", lambda: 2**62)  # many years ahead

    (shown,) = admin(keyed, "GET", "overview").json["workers"]
    assert shown["last_heard_seconds"] < 300


def test_the_overviews_pace_is_that_of_a_picture_of_the_default_size_and_preset(parts, worker):
    small = replace(parts.profile, square=(512, 512))
    service = replace(parts, profile=small, settings=replace(parts.settings, preset="turbo-8", admin_key="key"))
    parts.redis.hset(f"{PREFIX}pace", mapping={"run_ms": "9000", "gap_ms": "2000"})  # for 1024x1024 in 4 forwards
    client = create_app(service).test_client()

    seen = client.get("/v1/admin/overview", headers={"Authorization": "Bearer key"}).json["queue"]

    assert (seen["seconds_per_picture"], seen["usual_size"]) == (1.0, "512x512")


@pytest.mark.parametrize("state", ["paused", "draining"])
def test_the_overview_shows_a_stopped_tenant_that_has_no_jobs_until_it_goes_on(keyed, parts, worker, state):
    make_key(keyed)
    flow(keyed, "tenant", "shop", state)

    while_stopped = admin(keyed, "GET", "overview").json["queue"]["tenants"]
    flow(keyed, "tenant", "shop", "open")

    assert while_stopped == [{"tenant": "shop", "interactive": 0, "batch": 0, "running": 0, "state": state}]
    assert admin(keyed, "GET", "overview").json["queue"]["tenants"] == []


def test_a_stopped_tenant_is_shown_however_many_have_longer_queues(keyed, parts, worker, monkeypatch):
    monkeypatch.setattr(admin_service, "TENANTS_SHOWN", 1)
    headers, _ = make_key(keyed)
    keyed.post("/v1/jobs", json=BODY, headers=headers)
    parts.tenants.create_key("cafe")
    flow(keyed, "tenant", "cafe", "draining")

    shown = admin(keyed, "GET", "overview").json["queue"]["tenants"]

    assert [(one["tenant"], one["state"]) for one in shown] == [("shop", "open"), ("cafe", "draining")]


@pytest.mark.parametrize("state", ["released", "running"])
def test_the_overview_shows_a_tenant_of_whom_nothing_waits_any_more(keyed, parts, worker, state):
    mine, _ = make_key(keyed)
    keyed.post("/v1/jobs", json=BODY, headers=mine)
    (release,) = parts.jobs.release(8)
    if state == "running":
        assert parts.jobs.claim(release.job_id, release.epoch, "t", worker.name)
    parts.jobs.release(8)  # finds the queue empty, and takes the tenant out of the race

    seen = admin(keyed, "GET", "overview").json

    assert seen["queue"]["tenants"] == [{"tenant": "shop", "interactive": 0, "batch": 0, "running": 1, "state": "open"}]


@pytest.fixture
def letters(keyed, worker):
    """Three dead jobs: two of `shop` with different reasons, one of `other`."""
    died = {}
    for name, tenant, code in [("a", "shop", "poison"), ("b", "shop", "storage_failed"), ("c", "other", "poison")]:
        headers, _ = make_key(keyed, tenant)
        died[name] = keyed.post("/v1/jobs", json={**BODY, "prompt": name}, headers=headers).json["id"]
        worker.fail(worker.claim()[0], code)
    return died


def test_dead_letters_are_listed_with_their_reason_and_by_filter(keyed, letters):
    def listed(query=""):
        return [one["id"] for one in admin(keyed, "GET", f"dead-letters{query}").json["data"]]

    first = admin(keyed, "GET", "dead-letters?limit=1").json

    assert listed() == [letters["c"], letters["b"], letters["a"]]
    assert listed("?tenant=shop") == [letters["b"], letters["a"]]
    assert listed("?code=poison") == [letters["c"], letters["a"]]
    assert listed(f"?limit=1&cursor={first['next_cursor']}") == [letters["b"]]
    assert admin(keyed, "GET", f"dead-letters?limit=2&cursor={first['next_cursor']}").json["next_cursor"] is None
    assert (first["has_more"], first["data"][0]["code"], first["data"][0]["reason"]) == (
        True, "poison", "It did not work."
    )  # fmt: skip


def test_a_page_of_letters_that_found_none_yet_goes_on(keyed, letters, monkeypatch):
    monkeypatch.setattr("core.job_pages.SCANNED_MOST", 2)
    monkeypatch.setattr("core.job_pages.READ_AT_ONCE", 1)
    parts_of = "dead-letters?tenant=shop&code=poison"

    first = admin(keyed, "GET", parts_of).json
    second = admin(keyed, "GET", f"{parts_of}&cursor={first['next_cursor']}").json

    assert (first["data"], first["has_more"]) == ([], True)
    assert ([one["id"] for one in second["data"]], second["has_more"], second["next_cursor"]) == (
        [letters["a"]], False, None
    )  # fmt: skip


@pytest.mark.parametrize("cursor", ["x", "1", "-" + "a" * 32])
def test_a_cursor_that_is_none_is_refused(keyed, letters, cursor):
    looked = admin(keyed, "GET", f"dead-letters?cursor={cursor}")
    tried = admin(keyed, "POST", "dead-letters/requeue", {"all": True, "cursor": cursor})

    assert [(one.status_code, one.json["field"]) for one in (looked, tried)] == [(400, "cursor"), (400, "cursor")]


def test_one_letter_is_tried_again_as_a_new_job(keyed, letters, worker):
    done = admin(keyed, "POST", f"dead-letters/{letters['a']}/requeue")
    again = admin(keyed, "POST", f"dead-letters/{letters['a']}/requeue")

    assert (done.status_code, done.json["job_id"] != letters["a"]) == (201, True)
    assert again.json["job_id"] == done.json["job_id"]
    assert list(worker.draw_all()) == [done.json["job_id"]]
    assert admin(keyed, "GET", "overview").json["dead_letters"] == 2


@pytest.mark.parametrize("code", ["quota_exceeded", "exceeds_limits"])
def test_letters_are_tried_again_by_filter_and_what_a_limit_refuses_stays(keyed, letters, worker, parts, code):
    if code == "quota_exceeded":
        use_up(parts, "other")
    else:
        admin(keyed, "PATCH", "tenants/other", {"daily_units": 0})

    done = admin(keyed, "POST", "dead-letters/requeue", {"code": "poison"}).json["data"]

    assert [(one["letter"], one["refused"]) for one in done] == [(letters["c"], code), (letters["a"], None)]
    assert len(worker.draw_all()) == 1
    left = [one["id"] for one in admin(keyed, "GET", "dead-letters").json["data"]]
    assert left == [letters["c"], letters["b"]]


def test_a_letters_reason_is_told_in_the_readers_language_as_far_as_it_has_the_words(keyed, parts, worker):
    mine, _ = make_key(keyed)
    for reason in ("The card had no room for this picture.", "Something of its own."):
        keyed.post("/v1/jobs", json={**BODY, "prompt": reason}, headers=mine)
        (lease,) = worker.claim()
        worker.store.fail(lease.job_id, lease.token, Failure(code="out_of_memory", message=reason, retryable=False))

    def told(tag):
        headers = {"Authorization": "Bearer the-operators-own-key", "Accept-Language": tag}
        return [one["reason"] for one in keyed.get("/v1/admin/dead-letters", headers=headers).json["data"]]

    assert told("en") == ["Something of its own.", "The card had no room for this picture."]
    assert told("zh-CN") == ["Something of its own.", "显存不足以绘制这张图片。"]


@pytest.mark.parametrize("body", [None, {}, {"limit": 5}, {"all": False}])
def test_letters_are_not_all_tried_again_by_a_slip(keyed, letters, worker, body):
    refused = admin(keyed, "POST", "dead-letters/requeue", body)

    assert (refused.status_code, refused.json["code"], refused.json["field"]) == (400, "missing_field", "all")
    assert "all" in refused.json["detail"]
    assert admin(keyed, "GET", "overview").json["dead_letters"] == 3


def test_all_letters_are_tried_again_where_that_is_said(keyed, letters, worker):
    done = admin(keyed, "POST", "dead-letters/requeue", {"all": True}).json["data"]

    assert [one["letter"] for one in done] == [letters["c"], letters["b"], letters["a"]]
    assert admin(keyed, "GET", "overview").json["dead_letters"] == 0


def test_a_tenant_that_drains_keeps_its_letters_and_holds_up_nobody_elses(keyed, letters, worker):
    admin(keyed, "PUT", "traffic/tenant/other", {"state": "draining"})

    done = admin(keyed, "POST", "dead-letters/requeue", {"code": "poison"})

    assert done.status_code == 200
    assert [(one["letter"], one["refused"]) for one in done.json["data"]] == [
        (letters["c"], "draining"), (letters["a"], None)
    ]  # fmt: skip


def test_a_letter_that_is_none_is_not_tried_again(keyed, worker):
    mine, _ = make_key(keyed)
    alive = keyed.post("/v1/jobs", json=BODY, headers=mine).json["id"]

    for job_id in (alive, "a" * 32):
        assert admin(keyed, "POST", f"dead-letters/{job_id}/requeue").status_code == 404


def failed_delivery(parts, disabled=""):
    endpoint = Endpoint(id="wh_1", tenant="shop", url="https://shop.example/hooks", disabled=disabled)
    parts.webhooks.save(endpoint)
    sent = parts.webhooks.enqueue(endpoint, {"id": "evt_1", "type": "job.succeeded"})
    failed = replace(sent, attempts=(Attempt(at_ms=5_000, status=502, duration_ms=3, error="bad gateway"),))
    parts.webhooks.record(failed)
    return failed


def counted_failures(keyed):
    overview = admin(keyed, "GET", "overview").json
    return overview["webhook_failures"], overview["webhook_failures_off"]


def test_a_failed_delivery_is_shown_and_counted_until_it_arrives(keyed, parts):
    failed = failed_delivery(parts)

    (shown,) = admin(keyed, "GET", "webhook-failures").json["data"]
    counted = counted_failures(keyed)
    parts.webhooks.record(replace(failed, state="delivered"))

    assert (shown["url"], shown["status"], shown["error"], shown["tenant"]) == (
        "https://shop.example/hooks", 502, "bad gateway", "shop"
    )  # fmt: skip
    assert (counted, shown["endpoint_disabled_because"]) == ((1, 0), None)
    assert admin(keyed, "GET", "webhook-failures").json["data"] == []
    assert counted_failures(keyed) == (0, 0)


def test_a_failed_delivery_to_an_endpoint_that_is_off_is_counted_by_itself(keyed, parts):
    """An operator can do nothing about it: its owner turns the endpoint on again, or leaves it."""
    failed_delivery(parts, disabled="answered 410")

    (shown,) = admin(keyed, "GET", "webhook-failures").json["data"]

    assert (counted_failures(keyed), shown["endpoint_disabled_because"]) == ((0, 1), "answered 410")


def test_a_waiting_job_is_moved_to_the_front_and_to_the_back(keyed, worker):
    mine, _ = make_key(keyed)
    bodies = [{**BODY, "prompt": one} for one in "abc"]
    first, second, third = (keyed.post("/v1/jobs", json=body, headers=mine).json["id"] for body in bodies)

    moved = admin(keyed, "POST", f"jobs/{third}/move", {"to": "front"})
    admin(keyed, "POST", f"jobs/{first}/move", {"to": "back"})

    listed = admin(keyed, "GET", "waiting?tenant=shop&lane=interactive").json["data"]
    assert (moved.status_code, moved.json["id"]) == (200, third)
    assert [one["id"] for one in listed] == [third, second, first]
    assert [lease.job_id for lease in worker.claim()] == [third, second, first]


def test_what_does_not_wait_or_is_not_known_is_not_moved(keyed, worker):
    mine, _ = make_key(keyed)
    job = keyed.post("/v1/jobs", json=BODY, headers=mine).json["id"]
    worker.claim()

    assert admin(keyed, "POST", f"jobs/{job}/move", {"to": "front"}).json["code"] == "conflict"
    assert admin(keyed, "POST", f"jobs/{'0' * 32}/move", {"to": "front"}).status_code == 404
    assert admin(keyed, "POST", f"jobs/{job}/move", {"to": "aside"}).json["field"] == "to"

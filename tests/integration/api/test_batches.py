"""A product list in, the same list with links out."""

import csv
import io
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import pytest

import api.list_room
import core.long_list
from api.objects import BatchObject
from core.errors import RedisUnavailable
from core.job import JobState, Lane
from core.redis_client import PREFIX
from tests.integration.api.conftest import use_up

SHEET = 'sku,title,color,note\nA-1,Red mug,red,=1+1\nA-2,陶瓷碗，手工,blue,\nB/3,"Lamp, brass",gold,keep\n'


def send(http, data=SHEET, headers=None, **form):
    data = data.encode() if isinstance(data, str) else data
    return http.post(
        "/v1/batches", data={"file": (io.BytesIO(data), "spring list.csv"), "size": "256x256", **form}, headers=headers
    )


def read_back(http, batch_id):
    answer = http.get(f"/v1/batches/{batch_id}/manifest.csv")
    return answer, list(csv.DictReader(io.StringIO(answer.data.decode("utf-8-sig"))))


def test_each_row_becomes_two_jobs_in_the_batch_lane(http, worker, parts):
    answer = send(http, white="{title} on white", scene="{title}, {color} room")

    batch = answer.json
    jobs = parts.jobs.list_jobs("local", batch_id=batch["id"])
    assert answer.status_code == 202
    assert answer.headers["Location"].endswith(f"/v1/batches/{batch['id']}")
    assert BatchObject.model_validate(batch)
    assert (batch["rows"], batch["request_counts"]["total"]) == (3, 6)
    assert {job.lane for job in jobs} == {Lane.BATCH}
    assert {job.request.prompt for job in jobs} >= {"Red mug on white", "Red mug, red room", "陶瓷碗，手工 on white"}
    assert jobs[0].metadata.keys() == {"sku", "variant", "row"}


def test_no_more_lists_come_in_at_a_time_than_memory_has_room_for(http, worker, parts, monkeypatch):
    monkeypatch.setattr(api.list_room, "WAIT_SECONDS", 0.01)
    with ExitStack() as others:
        for _ in range(api.list_room.LISTS_AT_ONCE):
            others.enter_context(api.list_room.room_for_a_list())
        refused = send(http)
        assert http.post("/v1/jobs", json={"prompt": "a mug"}).status_code == 202
    stored = len(parts.jobs.list_jobs("local"))

    assert (refused.status_code, refused.json["code"], refused.headers["Retry-After"]) == (503, "overloaded", "10")
    assert stored == 1
    assert [send(http).status_code for _ in range(api.list_room.LISTS_AT_ONCE + 1)] == [202] * 3


def test_a_list_is_as_old_as_the_server_says(http, worker, parts, monkeypatch):
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + 3600 * 10**9)

    batch = send(http, headers={"Idempotency-Key": "upload-1"}).json

    assert abs(batch["created_at"] - int(parts.redis.time()[0])) < 300
    ((_, kept_from),) = parts.redis.zrange(f"{PREFIX}sheets:local", 0, -1, withscores=True)
    assert abs(kept_from / 1000 - int(parts.redis.time()[0])) < 300


def test_the_same_list_comes_back_with_links_that_work(http, worker):
    batch = send(http).json
    drawn = worker.draw_all()

    answer, rows = read_back(http, batch["id"])

    assert http.get(f"/v1/batches/{batch['id']}").json["status"] == "completed"
    assert list(rows[0]) == ["sku", "title", "color", "note", "white_status", "white_url", "scene_status", "scene_url"]
    assert [(row["sku"], row["title"], row["color"]) for row in rows] == [
        ("A-1", "Red mug", "red"),
        ("A-2", "陶瓷碗，手工", "blue"),
        ("B/3", "Lamp, brass", "gold"),
    ]
    assert [row["note"] for row in rows] == ["'=1+1", "", "keep"]
    assert answer.headers["Content-Disposition"] == 'attachment; filename="spring_list-with-pictures.csv"'
    for row in rows:
        for url in (row["white_url"], row["scene_url"]):
            job_id = url.rsplit("/", 1)[1].removesuffix(".png")
            assert http.get(url).data == drawn[job_id]


def test_rows_that_are_not_done_have_a_status_and_no_link(http, worker):
    batch = send(http).json
    lease = worker.claim()[0]
    worker.fail(lease)

    _, rows = read_back(http, batch["id"])

    statuses = sorted(row[name] for row in rows for name in ("white_status", "scene_status"))
    assert statuses.count("failed") == 1
    assert set(statuses) <= {"failed", "queued", "running"}
    assert all(not row["white_url"] and not row["scene_url"] for row in rows)
    assert http.get(f"/v1/batches/{batch['id']}").json["request_counts"]["failed"] == 1


def test_the_list_sent_again_is_answered_by_the_same_pictures(http, worker, parts):
    first = send(http).json
    worker.draw_all()

    second = send(http).json

    jobs = parts.jobs.list_jobs("local", batch_id=second["id"])
    assert second["id"] != first["id"]
    assert {job.state for job in jobs} == {JobState.SUCCEEDED}
    assert worker.draw_all() == {}


def test_an_idempotency_key_makes_a_repeated_upload_the_same_batch(http, worker):
    headers = {"Idempotency-Key": "upload-1"}
    first, again = send(http, headers=headers), send(http, headers=headers)

    assert again.json["id"] == first.json["id"]
    assert again.headers["Idempotency-Replayed"] == "true"
    assert len(http.get(f"/v1/jobs?batch={first.json['id']}").json["data"]) == 6


@pytest.mark.parametrize("encoding", ["utf-8-sig", "gb18030", "utf-16"])
def test_lists_of_excel_are_read_whatever_its_encoding(http, worker, encoding):
    text = "货号;商品名称\nA-1;陶瓷马克杯，手工制作\nA-2;实木书架，三层\nA-3;不锈钢保温杯\n"

    batch = send(http, text.encode(encoding)).json

    answer = http.get(f"/v1/batches/{batch['id']}/manifest.csv").data.decode("utf-8-sig")
    assert answer.splitlines()[0].startswith("货号;商品名称;white_status")
    assert "实木书架，三层" in answer


BAD = {
    "no file": ({}, "file"),
    "empty": ({"file": (io.BytesIO(b""), "a.csv")}, "file"),
    "header only": ({"file": (io.BytesIO(b"sku,title\n"), "a.csv")}, "file"),
    "no sku column": ({"file": (io.BytesIO(b"title,price\nmug,3\n"), "a.csv")}, "file"),
    "binary": ({"file": (io.BytesIO(b"PK\x03\x04\x00\x00"), "a.xlsx")}, "file"),
    "unknown column in template": ({"file": (io.BytesIO(SHEET.encode()), "a.csv"), "white": "{nope}"}, "white"),
    "bad size": ({"file": (io.BytesIO(SHEET.encode()), "a.csv"), "size": "17x5000"}, "size"),
    "empty title": ({"file": (io.BytesIO(b"sku,title\nA,mug\nB,\n"), "a.csv")}, "rows.3.title"),
    "a header of riddles": ({"file": (io.BytesIO(b',"a ;"a |"a \t"a ' * 40_000 + b"\n1,2\n"), "a.csv")}, "file"),
    "a header cell too long": ({"file": (io.BytesIO(b"x" * 140_000 + b",sku,title\nA,B,C\n"), "a.csv")}, "file"),
    "a row of commas": (
        {"file": (io.BytesIO(b"sku,title\na,b" + b"," * 40_000 + b"\nA,mug" * 3_000), "a.csv")},
        "file",
    ),
    "template too long": ({"file": (io.BytesIO(SHEET.encode()), "a.csv"), "white": "{title}" * 30_000}, "white"),
    "prompt too long": ({"file": (io.BytesIO(b"sku,title\nA," + b"x" * 5000 + b"\n"), "a.csv")}, "rows.2.white"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_list_is_refused_whole_and_leaves_no_trace(http, worker, valkey, name):
    form, field = BAD[name]
    for value in form.values():
        if isinstance(value, tuple):
            value[0].seek(0)
    before = {key: valkey.dump(key) for key in valkey.scan_iter("*") if ":worker" not in key}

    answer = http.post("/v1/batches", data=dict(form), content_type="multipart/form-data")

    assert answer.status_code == 400, answer.text
    assert answer.json["field"] == field
    assert {key: valkey.dump(key) for key in valkey.scan_iter("*") if ":worker" not in key} == before


def test_a_list_over_the_quota_is_refused_whole(http, worker, parts, valkey):
    use_up(parts)
    parts.tenants.change("local", {"daily_units": 6})

    answer = send(http)

    assert (answer.status_code, answer.json["code"]) == (429, "quota_exceeded")
    assert list(valkey.scan_iter("*sheet*")) == []
    assert http.get("/v1/jobs").json["data"] == []


@pytest.mark.parametrize("portion", [500, 4])
@pytest.mark.parametrize("limit", [{"daily_units": 5}, {"queued_jobs": 5}])
def test_a_list_of_more_than_the_limits_ever_allow_is_told_how_many_rows_fit(
    http, worker, parts, valkey, monkeypatch, limit, portion
):
    monkeypatch.setattr(core.long_list, "ROWS_AT_ONCE", portion)
    parts.tenants.change("local", limit)

    answer = send(http)
    two_rows = send(http, "".join(SHEET.splitlines(keepends=True)[:3]))

    assert (answer.status_code, answer.json["code"], answer.json["field"]) == (400, "exceeds_limits", "file")
    assert answer.json["detail"].endswith("; send at most 2 rows at once.")
    assert "Retry-After" not in answer.headers
    assert two_rows.status_code == 202
    assert len(list(valkey.scan_iter("*:sheet:*"))) == 1
    assert http.get("/v1/usage").json["daily_reserved"] == 4


def test_another_content_type_is_refused(http, worker):
    assert http.post("/v1/batches", data=SHEET, content_type="text/csv").status_code == 415
    assert http.post("/v1/batches", json={"rows": []}).status_code == 415


def test_a_huge_file_is_refused(http, worker):
    answer = send(http, b"sku,title\n" + b"A,mug\n" * 3_000_000)

    assert answer.status_code == 413


@pytest.mark.parametrize("batch_id", ["batch_" + "0" * 24, "x", "..%2f.."])
def test_an_unknown_batch_is_404(http, parts, batch_id):
    assert http.get(f"/v1/batches/{batch_id}").status_code == 404
    assert http.get(f"/v1/batches/{batch_id}/manifest.csv").status_code == 404


def test_ten_thousand_rows_are_taken_in_one_call(http, worker, parts):
    rows = "".join(f"S-{number},Product {number}\n" for number in range(9_900))

    answer = send(http, "sku,title\n" + rows)

    assert answer.status_code == 202
    assert answer.json["request_counts"]["total"] == 19_800


def test_a_malformed_idempotency_key_leaves_no_batch_behind(http, parts):
    sheet = {"file": (io.BytesIO(b"sku,title\nA,mug\n"), "list.csv"), "size": "256x256"}

    answer = http.post("/v1/batches", data=sheet, headers={"Idempotency-Key": "two words"})

    assert (answer.status_code, answer.json["field"]) == (400, "Idempotency-Key")
    assert list(parts.redis.scan_iter("{zimg}:*batch*")) == []


class BrokenOff:
    """The store's scripts on a connection that is gone after some calls of submit."""

    def __init__(self, scripts, calls):
        self.scripts, self.left = scripts, calls

    def run(self, name, *arguments):
        if name == "submit":
            self.left -= 1
            if self.left < 0:
                raise RedisUnavailable("gone")
        return self.scripts.run(name, *arguments)


@contextmanager
def redis_gone_after(parts, calls):
    scripts = parts.jobs._scripts
    parts.jobs._scripts = BrokenOff(scripts, calls)
    try:
        yield
    finally:
        parts.jobs._scripts = scripts


@pytest.mark.parametrize("runs_out", [True, False])
def test_a_long_list_that_broke_off_is_gone_on_with_under_its_key(http, worker, parts, valkey, monkeypatch, runs_out):
    monkeypatch.setattr(core.long_list, "ROWS_AT_ONCE", 2)
    headers = {"Idempotency-Key": "upload-1"}

    with redis_gone_after(parts, 2):
        broken = send(http, headers=headers)
    first = http.get("/v1/jobs").json["data"]
    batch_id = parts.jobs.get(first[0]["id"]).batch_id
    on_its_way = http.get(f"/v1/batches/{batch_id}").json
    if runs_out:
        valkey.zadd(f"{PREFIX}holds", {batch_id: 1})
        parts.jobs.reap_holds()
    left = http.get(f"/v1/batches/{batch_id}").json
    worker.draw_all()
    again = send(http, headers=headers)

    assert (broken.status_code, broken.json["code"]) == (503, "redis_unavailable")
    assert (on_its_way["status"], on_its_way["request_counts"]["total"]) == ("in_progress", 4)
    assert left["status"] == ("incomplete" if runs_out else "in_progress")
    assert (again.status_code, again.json["id"]) == (202, batch_id)
    assert again.json["request_counts"] == {"total": 6, "completed": 4, "failed": 0, "canceled": 0}
    worker.draw_all()
    assert http.get(f"/v1/batches/{batch_id}").json["status"] == "completed"
    assert all(row["white_url"] and row["scene_url"] for row in read_back(http, batch_id)[1])


def test_a_list_whose_rest_is_refused_keeps_what_was_stored(http, worker, parts, valkey, monkeypatch):
    monkeypatch.setattr(core.long_list, "ROWS_AT_ONCE", 2)
    headers = {"Idempotency-Key": "upload-1"}
    with redis_gone_after(parts, 1):
        send(http, headers=headers)
    batch_id = parts.jobs.get(http.get("/v1/jobs").json["data"][0]["id"]).batch_id
    valkey.zadd(f"{PREFIX}holds", {batch_id: 1})
    parts.jobs.reap_holds()
    local = parts.tenants.local()
    parts.tenants.save(replace(local, limits=replace(local.limits, daily_units=5)))

    assert send(http, headers=headers).json["code"] == "quota_exceeded"

    assert http.get(f"/v1/batches/{batch_id}").json["status"] == "incomplete"
    assert read_back(http, batch_id)[0].status_code == 200

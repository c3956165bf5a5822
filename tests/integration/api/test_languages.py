"""Real refusals, asked for in English and in Chinese: both say the same facts, in our own words."""

import io
import re
from dataclasses import replace

import pytest

from core.job import Failure
from scheduler.traffic import Flow, Kind, Traffic

BODY = {"prompt": "a red mug"}
MODELS = ["gpt-image-1", "z-image-turbo"]
LARGE = {**BODY, "size": "1536x1536"}
#: Figures, names of models and columns, methods: what a person needs in order to mend the request.
FACT = re.compile(r"\d+|z-image-turbo|gpt-image-1|GET|POST|HEAD|OPTIONS|DELETE|`[^`]+`|'[a-z]+'|Idempotency-Key")
#: Words of the libraries below us, which answer for nobody here.
FOREIGN = re.compile(r"server|spelling|Input should|URL was not found|pydantic|werkzeug", re.IGNORECASE)
OUT_OF_ROOM = Failure(code="out_of_memory", message="The card had no room for this picture.", retryable=False)
CHINESE = re.compile("[\u4e00-\u9fff]")


def both(client, method, path, **sent):
    """The same refusal in English and in Chinese."""
    headers = sent.pop("headers", {})
    answers = [
        client.open(path, method=method, headers={**headers, "Accept-Language": tag}, **sent) for tag in ("en", "zh")
    ]
    english, chinese = (answer.json for answer in answers)
    assert [answer.content_type for answer in answers] == ["application/problem+json"] * 2
    assert (english["code"], english["status"]) == (chinese["code"], chinese["status"])
    return english, chinese


def assert_same_facts(english, chinese):
    assert sorted(FACT.findall(english)) == sorted(FACT.findall(chinese))
    assert not CHINESE.search(english)
    assert CHINESE.search(chinese)
    assert not FOREIGN.search(english + chinese)


def many(count):
    return {f"m{number}": 1 for number in range(count)}


WRONG = {
    "size of too many pixels": ("POST", "/v1/jobs", {"json": LARGE}, 400, ["2359296", "1048576"]),
    "side of no multiple": ("POST", "/v1/jobs", {"json": {**BODY, "size": "500x512"}}, 400, ["16", "256", "1536"]),
    "seed below": ("POST", "/v1/jobs", {"json": {**BODY, "seed": -1}}, 400, ["0"]),
    "seed above": ("POST", "/v1/jobs", {"json": {**BODY, "seed": 2**32}}, 400, ["4294967296"]),
    "seed of text": ("POST", "/v1/jobs", {"json": {**BODY, "seed": "7"}}, 400, []),
    "too many pictures": ("POST", "/v1/jobs", {"json": {**BODY, "n": 11}}, 400, ["10"]),
    "no prompt": ("POST", "/v1/jobs", {"json": {}}, 400, []),
    "long prompt": ("POST", "/v1/jobs", {"json": {"prompt": "x" * 4001}}, 400, ["4001", "4000"]),
    "unknown priority": ("POST", "/v1/jobs", {"json": {**BODY, "priority": "now"}}, 400, ["'low'", "'high'"]),
    "too much metadata": ("POST", "/v1/jobs", {"json": {**BODY, "metadata": many(65)}}, 400, ["64"]),
    "unknown model": ("POST", "/v1/jobs", {"json": {**BODY, "model": "gpt-image-1"}}, 400, MODELS),
    "retention too short": ("POST", "/v1/jobs", {"json": {**BODY, "expires_in": 5}}, 400, ["60"]),
    "internal webhook": ("POST", "/v1/jobs", {"json": {**BODY, "webhook_url": "https://10.0.0.1/"}}, 400, []),
    "broken JSON": ("POST", "/v1/jobs", {"data": b'{"a"', "content_type": "application/json"}, 400, ["1", "5"]),
    "another type": ("POST", "/v1/jobs", {"data": b"x", "content_type": "text/plain"}, 415, []),
    "no type at all": ("POST", "/v1/jobs", {"data": b"x"}, 415, []),
    "huge body": ("POST", "/v1/jobs", {"data": b"x" * 300_000, "content_type": "application/json"}, 413, ["262144"]),
    "long wait": ("GET", "/v1/jobs?limit=0", {}, 400, ["1"]),
    "malformed job": ("GET", "/v1/jobs/nope", {}, 404, []),
    "malformed job's events": ("GET", "/v1/jobs/nope/events", {}, 404, []),
    "malformed job to cancel": ("POST", "/v1/jobs/nope/cancel", {}, 404, []),
    "unknown job": ("GET", f"/v1/jobs/{'0' * 32}", {}, 404, []),
    "unknown path": ("GET", "/v1/nothing", {}, 404, []),
    "unknown picture": ("GET", "/i/nope.png", {}, 404, []),
    "wrong method": ("PUT", "/v1/jobs", {}, 405, ["GET", "POST"]),
    "unknown model's page": ("GET", "/v1/models/gpt-image-1", {}, 404, MODELS),
}  # fmt: skip


def test_each_refusal_tells_the_same_facts_in_both_languages(http, worker):
    for case, (method, path, sent, status, facts) in WRONG.items():
        english, chinese = both(http, method, path, **sent)

        assert english["status"] == status, case
        assert_same_facts(english["detail"], chinese["detail"])
        assert set(facts) <= set(FACT.findall(english["detail"])), case
        whole = f"{chinese['title']}：{chinese['detail']}"
        told_once = chinese["detail"].startswith(chinese["title"])
        assert chinese["error"]["message"] == (chinese["detail"] if told_once else whole)


def test_every_wrong_member_is_told_in_both(http, worker):
    english, chinese = both(http, "POST", "/v1/jobs", json={"prompt": "", "size": "1x1", "seed": -1})

    assert len(english["errors"]) == 3
    for one, other in zip(english["errors"], chinese["errors"], strict=True):
        assert one["pointer"] == other["pointer"]
        assert_same_facts(one["detail"], other["detail"])


def test_the_rows_of_a_product_list_are_told_in_both(http, worker):
    def sheet():
        long = "x" * 5_000
        return {"data": {"file": (io.BytesIO(f"sku,title\nA,\nB,{long}\n".encode()), "a.csv")}}

    english = http.post("/v1/batches", **sheet(), headers={"Accept-Language": "en"}).json["errors"]
    chinese = http.post("/v1/batches", **sheet(), headers={"Accept-Language": "zh"}).json["errors"]

    assert chinese[0]["detail"] == "第 2 行：title 为空"
    for one, other in zip(english, chinese, strict=True):
        assert_same_facts(one["detail"], other["detail"])


@pytest.mark.parametrize(
    ("limit", "code"),
    [
        ({"daily_units": 2}, "quota_exceeded"),
        ({"queued_jobs": 2}, "queue_full"),
        ({"burst": 1, "burst_per_second": 0.01}, "rate_limit_exceeded"),
    ],
)
def test_a_limit_tells_its_bound_and_the_time_to_wait_in_both(http, worker, parts, limit, code):
    local = parts.tenants.local()
    parts.tenants.save(replace(local, limits=replace(local.limits, **limit)))
    http.post("/v1/jobs", json={"prompt": "first"})

    english, chinese = both(http, "POST", "/v1/jobs", json={**BODY, "n": 2})

    assert english["code"] == code
    assert "Wait" in english["detail"]
    assert "请等待" in chinese["detail"]
    assert_same_facts(english["detail"].partition("Wait")[0], chinese["detail"].partition("请等待")[0])


@pytest.mark.parametrize(
    ("limit", "english", "chinese"),
    [
        (
            {"daily_units": 2},
            "This call asks for 3 pictures, and this account may draw 2 a day; send at most 2 at once.",
            "本次请求 3 张图片，而该账户每天可绘制 2 张。请一次最多提交 2 张。",
        ),
        (
            {"queued_jobs": 2},
            "This call asks for 3 pictures, and of this account 2 may wait; send at most 2 at once.",
            "本次请求 3 张图片，而该账户可有 2 张排队。请一次最多提交 2 张。",
        ),
        (
            {"daily_units": 0},
            "This call asks for 3 pictures, and this account may draw 0 a day; tell the operator that you need more.",
            "本次请求 3 张图片，而该账户每天可绘制 0 张。请联系管理员提高限额。",
        ),
    ],
)
def test_more_than_a_limit_ever_allows_is_told_in_both(http, worker, parts, limit, english, chinese):
    parts.tenants.change("local", limit)

    told = both(http, "POST", "/v1/jobs", json={**BODY, "n": 3})

    assert [one["detail"] for one in told] == [english, chinese]


def test_more_rows_than_a_limit_ever_allows_are_told_in_both(http, worker, parts):
    parts.tenants.change("local", {"daily_units": 5})

    def sheet():
        return {"data": {"file": (io.BytesIO(b"sku,title\nA,mug\nB,mug\nC,mug\n"), "a.csv")}}

    english, chinese = (
        http.post("/v1/batches", **sheet(), headers={"Accept-Language": language}).json for language in ("en", "zh")
    )

    assert english["detail"] == (
        "This call asks for 6 pictures, and this account may draw 5 a day; send at most 2 rows at once."
    )
    assert chinese["detail"] == "本次请求 6 张图片，而该账户每天可绘制 5 张。请一次最多提交 2 行。"


@pytest.mark.parametrize(
    ("kind", "name", "english", "chinese"),
    [
        (
            "lane", "interactive",
            "The interactive lane takes no new work now; try again later. Wait 60 seconds.",
            "interactive 通道目前不接收新任务，请稍后重试。请等待 60 秒。",
        ),
        (
            "tenant", "local",
            "This account takes no new work now; try again later. Wait 60 seconds.",
            "该账户目前不接收新任务，请稍后重试。请等待 60 秒。",
        ),
    ],
)  # fmt: skip
def test_what_runs_empty_says_so_in_one_language(http, worker, parts, kind, name, english, chinese):
    Traffic(parts.jobs).set(Kind(kind), name, Flow.DRAINING)

    told = both(http, "POST", "/v1/jobs", json=BODY)

    assert [one["detail"] for one in told] == [english, chinese]


#: Grammar that a form gets wrong for one, and the ledger's word for what everybody else calls a picture.
CLUMSY = re.compile(r"\b1 (pictures|rows|jobs|entries|characters)\b|\bunits\b")


@pytest.mark.parametrize(
    ("limit", "told"),
    [
        ({"daily_units": 0}, "This call asks for 1 picture, and this account may draw 0 a day; tell the operator"),
        ({"queued_jobs": 0}, "This call asks for 1 picture, and of this account 0 may wait; tell the operator"),
        ({"daily_units": 1}, "The day's pictures (1) are drawn or reserved; they return at 00:00 UTC."),
        ({"queued_jobs": 1}, "1 of the 1 places in your queue are taken; send again when some jobs have ended."),
        ({"burst": 1, "burst_per_second": 1}, "More than 1 picture a second; wait and send again."),
    ],
)
def test_one_is_one_in_both(http, worker, parts, limit, told):
    parts.tenants.change("local", limit)
    http.post("/v1/jobs", json={"prompt": "first"})

    english, chinese = both(http, "POST", "/v1/jobs", json=BODY)

    assert english["detail"].startswith(told)
    assert not CLUMSY.search(english["detail"])
    assert_same_facts(english["detail"].partition("Wait")[0], chinese["detail"].partition("请等待")[0])


def test_one_row_that_fits_is_one_row(http, worker, parts):
    parts.tenants.change("local", {"daily_units": 2})

    english, chinese = (
        http.post(
            "/v1/batches",
            data={"file": (io.BytesIO(b"sku,title\nA,mug\nB,mug\n"), "a.csv")},
            headers={"Accept-Language": language},
        ).json
        for language in ("en", "zh")
    )

    assert english["detail"].endswith("; send at most 1 row at once.")
    assert chinese["detail"].endswith("请一次最多提交 1 行。")


def test_a_list_without_an_entry_is_told_the_least_in_both(http, parts):
    english, chinese = both(http, "POST", "/v1/jobs/cancel", json={"ids": []})

    assert english["detail"].startswith("ids must have 1 or more entries")
    assert_same_facts(english["detail"], chinese["detail"])


def test_the_time_that_is_told_is_the_one_of_the_header(http, worker, parts):
    local = parts.tenants.local()
    limits = replace(local.limits, daily_units=1, burst=1, burst_per_second=0.01)
    parts.tenants.save(replace(local, limits=limits))
    http.post("/v1/jobs", json={"prompt": "first"})

    answer = http.post("/v1/jobs", json={"prompt": "second"}, headers={"Accept-Language": "zh"})

    seconds = int(answer.headers["Retry-After"])  # the day's, although the burst alone refused
    assert answer.json["retry_after_seconds"] == seconds
    told = re.search(r"请等待 (\d+) (秒|分钟|小时)", answer.json["detail"])
    assert int(told[1]) * {"秒": 1, "分钟": 60, "小时": 3600}[told[2]] >= seconds


def test_a_range_outside_the_file_tells_its_length_in_both(http, worker):
    job = http.post("/v1/jobs", json=BODY).json
    png = worker.draw_all()[job["id"]]

    english, chinese = both(http, "GET", f"/i/{job['id']}.png", headers={"Range": "bytes=99999999-"})

    assert english["status"] == 416
    assert str(len(png)) in english["detail"]
    assert_same_facts(english["detail"], chinese["detail"])


@pytest.mark.parametrize("key", ["", "Bearer zimg_nobody"])
def test_a_missing_and_a_wrong_key_are_told_in_both(keyed, key):
    english, chinese = both(keyed, "GET", "/v1/jobs", headers={"Authorization": key} if key else {})

    assert english["status"] == 401
    assert_same_facts(english["detail"], chinese["detail"])


def test_a_dead_job_and_its_events_speak_the_readers_language(http, worker):
    job = http.post("/v1/jobs", json=BODY).json
    lease = worker.claim()[0]
    worker.store.fail(lease.job_id, lease.token, OUT_OF_ROOM)

    shown = http.get(f"/v1/jobs/{job['id']}", headers={"Accept-Language": "zh"}).json
    events = http.get(f"/v1/jobs/{job['id']}/events", headers={"Accept-Language": "zh"}).text

    told = "显存不足以绘制这张图片。请使用较小的尺寸，或稍后再提交；本次不计费。"
    assert shown["error"]["message"] == told
    assert told in events


def test_title_and_sentence_are_joined_as_each_language_writes_it(http):
    english, chinese = both(http, "POST", "/v1/jobs", json={})

    assert english["error"]["message"] == f"{english['title']}: {english['detail']}"
    assert chinese["error"]["message"] == f"{chinese['title']}：{chinese['detail']}"


def test_an_error_says_what_is_wrong_and_then_what_to_do(http, parts):
    english, chinese = both(http, "GET", f"/v1/jobs/{'0' * 32}")

    assert english["detail"] == "There is no job with this id. Check the id: /v1/jobs lists those of your key."
    assert chinese["detail"] == "没有该编号的任务。请检查编号；/v1/jobs 列出此密钥的任务。"


def test_a_sentence_without_an_end_gets_one_before_what_to_do(http, parts):
    english, chinese = both(http, "POST", "/v1/jobs", json={})

    assert english["detail"] == "prompt is required. Add it and send the request again."
    assert chinese["detail"] == "缺少 prompt。请补上后重发。"

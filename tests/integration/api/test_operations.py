"""Probes, metrics, documentation, and what every answer carries."""

import html
import json
import os
import re
from dataclasses import replace

import httpx
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from api.app import create_app
from api.security import SECURITY_HEADERS
from tests.integration.api.conftest import ROOT, eventually

SNAPSHOT = ROOT / "docs" / "openapi.json"


def test_healthz_says_exactly_two_things(http):
    answer = http.get("/healthz")

    assert re.fullmatch(r'\{"status":"ok","uptime_sec":\d+\}\n?', answer.text)
    assert answer.content_type == "application/json"


def test_readyz_is_200_with_redis_storage_and_a_worker(http, worker):
    answer = http.get("/readyz")

    assert (answer.status_code, answer.json) == (
        200, {"status": "ready", "checks": {"redis": "ok", "storage": "ok", "workers": "ok"}}
    )  # fmt: skip


def test_readyz_is_503_without_a_worker_unless_none_is_needed(http, parts):
    needs_none = create_app(replace(parts, settings=replace(parts.settings, min_workers=0))).test_client()

    answer = http.get("/readyz")

    assert answer.status_code == 503
    assert answer.json["checks"]["workers"].startswith("unavailable")
    assert needs_none.get("/readyz").status_code == 200


def test_readyz_is_503_while_redis_is_away_and_healthz_is_not(http, worker, valkey_server):
    valkey_server.kill()
    try:
        answer = http.get("/readyz")
        assert answer.status_code == 503
        assert answer.json["checks"]["redis"].startswith("redis_unavailable")
        assert http.get("/healthz").status_code == 200
        assert "zimg_redis_up 0.0" in http.get("/metrics").text
    finally:
        valkey_server.start()


def test_metrics_show_the_whole_service(http, worker):
    http.post("/v1/jobs", json={"prompt": "a", "n": 2}).close()

    text = http.get("/metrics").text

    assert 'zimg_jobs_waiting{lane="interactive"} 2.0' in text
    assert "zimg_workers 1.0" in text
    assert re.search(r"^zimg_redis_memory_used_bytes [1-9]", text, flags=re.M)
    assert re.search(r"^zimg_redis_memory_max_bytes [1-9]", text, flags=re.M)
    assert 'zimg_http_requests_total{code="202",method="POST",route="/v1/jobs"}' in text


def test_methods_that_nobody_knows_are_counted_as_one(http):
    """A client without a key made a label of each: 7 MB of metrics in four seconds, kept for good."""
    for at in range(20):
        http.open("/healthz", method=f"BREW{at}").close()

    text = http.get("/metrics").text

    assert "BREW" not in text
    assert 'method="other"' in text


def test_probes_need_no_key_and_no_name(keyed, worker):
    for path in ("/healthz", "/readyz", "/metrics", "/docs", "/openapi.json", "/"):
        assert keyed.get(path, headers={"Host": "10.1.2.3:8080"}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/docs", "/healthz", "/v1/jobs", "/nope", "/static/page.js", "/problems"])
def test_every_answer_carries_the_security_headers_and_a_request_id(http, parts, path):
    answer = http.get(path)

    for name in SECURITY_HEADERS:
        assert name in answer.headers
    assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
    assert "script-src 'self' 'unsafe" not in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Request-Id"].startswith("req_")


def test_a_request_is_one_log_line_with_its_id_and_its_time_only(live, worker):
    answer = httpx.post(f"{live.url}/v1/jobs", json={"prompt": "a very private prompt"}, timeout=20)

    def lines():
        text = (live.folder / "api.log").read_text()
        assert "very private" not in text
        return [json.loads(line) for line in text.splitlines() if answer.headers["X-Request-Id"] in line]

    (line,) = eventually(lines)
    assert line.keys() == {"ts", "level", "request_id", "duration_ms"}


def test_the_openapi_document_is_valid_and_names_every_route(http, parts):
    document = http.get("/openapi.json").json

    validate(document)
    routes = {
        re.sub(r"<(?:[^:>]+:)?(\w+)>", r"{\1}", rule.rule)
        for rule in http.application.url_map.iter_rules()
        if rule.rule.startswith(("/v1/", "/i/"))
    }
    assert routes <= set(document["paths"])


def resolved(document, part):
    """A part of the document, or what it refers to."""
    for name in part.get("$ref", "").removeprefix("#/").split("/") if "$ref" in part else ():
        document = document[name]
    return document if "$ref" in part else part


def test_every_route_under_v1_has_words_errors_and_an_operation_id(http, parts):
    document = http.get("/openapi.json").json
    for path, item in document["paths"].items():
        for method, operation in item.items():
            assert operation["summary"], (method, path)
            if path.startswith("/v1/"):
                refused = resolved(document, operation["responses"]["400"])
                assert "application/problem+json" in refused["content"], (method, path)
    ids = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
    assert len(ids) == len(set(ids))


def bodies(document):
    """The names of the schemas that some request or answer consists of, webhooks included."""
    text = json.dumps([document["paths"], document["webhooks"]])
    return set(re.findall(r'"schema": {"\$ref": "#/components/schemas/(\w+)"}', text))


def against(document, name, example):
    """Whether an example fits a schema of the document."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    return list(Draft202012Validator(schema).iter_errors(example))


def test_every_body_of_the_document_has_an_example_that_fits_its_schema(http, parts):
    document = http.get("/openapi.json").json
    schemas = document["components"]["schemas"]

    names = bodies(document)
    assert len(names) > 40
    for name in names:
        if schemas[name].get("type") == "object":
            assert "example" in schemas[name], name
            assert against(document, name, schemas[name]["example"]) == [], name


def test_a_body_is_required_only_where_a_member_of_it_is(http, parts):
    paths = http.get("/openapi.json").json["paths"]

    assert paths["/v1/jobs"]["post"]["requestBody"]["required"] is True
    assert paths["/v1/webhooks/{endpoint_id}/rotate"]["post"]["requestBody"]["required"] is False
    assert paths["/v1/batches"]["post"]["requestBody"]["required"] is True


def test_every_route_that_takes_a_body_may_refuse_one_that_is_too_large_or_of_another_kind(http, parts):
    paths = http.get("/openapi.json").json["paths"]
    taking = [one for item in paths.values() for one in item.values() if "requestBody" in one]

    assert len(taking) > 15
    assert [one["operationId"] for one in taking if not {"413", "415"} <= set(one["responses"])] == []


def test_an_example_that_does_not_fit_would_be_noticed(http, parts):
    document = http.get("/openapi.json").json

    assert against(document, "JobObject", {**document["components"]["schemas"]["JobObject"]["example"], "seed": "x"})


def test_every_problem_is_in_the_document_under_each_answer_of_its_status(http, parts):
    from api.problems import PROBLEMS

    document = http.get("/openapi.json").json
    examples = document["components"]["examples"]

    assert set(examples) == set(PROBLEMS)
    for example in examples.values():
        assert against(document, "ProblemObject", example["value"]) == []
    answers = document["paths"]["/v1/jobs"]["post"]["responses"]
    refused = resolved(document, answers["400"])["content"]["application/problem+json"]
    assert {"invalid_size", "empty_prompt", "content_policy_violation"} <= set(refused["examples"])


def test_a_problems_example_has_the_members_of_a_real_one(http, worker):
    example = http.get("/openapi.json").json["components"]["examples"]["invalid_size"]["value"]

    real = http.post("/v1/jobs", json={"prompt": "a", "size": "17x17"}).json

    assert real["code"] == "invalid_size"
    assert set(example) <= set(real)
    assert real["error"].keys() == example["error"].keys()


def test_the_document_describes_every_event_that_webhooks_send(http, parts):
    from core.webhook_store import EVENT_TYPES

    document = http.get("/openapi.json").json

    assert set(document["webhooks"]) == {*EVENT_TYPES, "webhook.test"}
    for item in document["webhooks"].values():
        assert {header["name"] for header in item["post"]["parameters"]} == {
            "webhook-id", "webhook-timestamp", "webhook-signature"
        }  # fmt: skip


def test_the_docs_load_nothing_from_elsewhere(http, parts):
    page = http.get("/docs").text

    loaded = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert loaded
    for address in loaded:
        assert address.startswith("/"), address
        assert http.get(address).status_code == 200


def test_the_page_loads_nothing_from_elsewhere(http, parts):
    page = http.get("/").text

    for address in re.findall(r'(?:src|href)="([^"#]+)"', page):
        assert address.startswith("/"), address
        assert http.get(address).status_code == 200
    assert "style=" not in page
    assert "<script>" not in page


@pytest.mark.parametrize("name", ["../app.py", "..%2fapp.py", "%2e%2e/app.py", "index.html%00.css", "%2fetc/passwd"])
def test_nothing_but_static_files_is_served(http, parts, name):
    assert http.get(f"/static/{name}").status_code == 404


def test_the_problems_page_lists_every_code(http, parts):
    from api.problems import PROBLEMS

    text = http.get("/problems").text

    assert all(f'id="{code}"' in text for code in PROBLEMS)
    shown = html.unescape(re.sub(r"<[^>]+>", "", text))
    assert all(problem.advice.replace("`", "") in shown for problem in PROBLEMS.values())
    assert text.count("retry_at</code>, <code>Retry-After") == sum(
        problem.is_worth_a_retry for problem in PROBLEMS.values()
    )


def test_the_problems_page_says_of_what_passes_that_it_may_be_sent_again_and_speaks_chinese(http, parts):
    from api.problems import PROBLEMS

    english, chinese = (http.get("/problems", headers={"Accept-Language": one}).text for one in ("en", "zh-CN"))

    rows = {code: english.split(f'id="{code}"')[1].split("</tr>")[0] for code in PROBLEMS}
    told = {code: one.advice for code, one in PROBLEMS.items() if not one.is_worth_a_retry}
    promised = {code for code, advice in told.items() if re.search("(?i)send it again later|try again;", advice)}
    assert promised <= {code for code, row in rows.items() if "later, as a new request" in row} < set(rows)
    assert ('<html lang="en">' in english, '<html lang="zh-CN">' in chinese) == (True, True)
    assert ("<h1>错误代码</h1>" in chinese, "何时重发" in chinese, "not as it stands" in chinese) == (True, True, False)


def test_a_language_model_finds_its_way_by_a_text_whose_links_work(http, worker):
    text = http.get("/llms.txt").text

    links = re.findall(r"\]\(http://[^/]+(/[^)]+)\)", text)
    assert [http.get(link).status_code for link in links] == [200, 200, 200]
    example = json.loads(re.search(r"/v1/jobs (\{.*\}) answers", text)[1])
    assert http.post("/v1/jobs", json=example).status_code == 202


def test_a_documents_example_is_accepted_as_it_stands(http, worker):
    document = http.get("/openapi.json").json
    example = document["components"]["schemas"]["JobCreate"]["example"]

    assert http.post("/v1/jobs", data=json.dumps(example), content_type="application/json").status_code == 202


def test_the_openapi_document_is_the_one_that_was_agreed(http, parts):
    """docs/openapi.json is the promise to clients. After a wanted change: ZIMG_UPDATE_SNAPSHOTS=1 and read the diff."""
    served = json.dumps(http.get("/openapi.json").json, indent=1, ensure_ascii=False) + "\n"
    if os.environ.get("ZIMG_UPDATE_SNAPSHOTS") == "1":
        SNAPSHOT.write_text(served)

    assert SNAPSHOT.read_text() == served


def test_every_path_that_kubernetes_and_compose_probe_answers(http, worker):
    probed = set()
    for path in (ROOT / "k8s" / "base").rglob("*.yaml"):
        probed |= set(re.findall(r"httpGet: {path: ([^,}]+)", path.read_text()))
    for path in (ROOT / "deploy" / "docker").iterdir():
        probed |= set(re.findall(r"(/healthz|/readyz)\b", path.read_text()))

    assert probed == {"/healthz"}, "what is away for all replicas at once must not take all of them away"
    for path in probed:
        assert http.get(path, headers={"Host": "10.1.2.3:8080"}).status_code == 200, path

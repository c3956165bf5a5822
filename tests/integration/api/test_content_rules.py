"""Prompts that the operator forbids are refused at every door, cost nothing and leave no trace."""

import io
from dataclasses import replace

import pytest

from api.app import create_app
from api.content_rules import ContentRules


@pytest.fixture
def ruled(parts, worker, tmp_path):
    path = tmp_path / "blocked.txt"
    path.write_text("forbidden\n")
    return create_app(replace(parts, rules=ContentRules(str(path)))).test_client()


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/images/generations"])
def test_a_forbidden_prompt_is_refused_and_not_charged(ruled, path):
    answer = ruled.post(path, json={"prompt": "a Forbidden thing"})

    assert (answer.status_code, answer.json["code"]) == (400, "content_policy_violation")
    assert answer.json["error"]["code"] == "content_policy_violation"
    assert ruled.get("/v1/jobs").json["data"] == []
    assert ruled.get("/v1/usage").json["daily_reserved"] == 0


def test_a_list_with_a_forbidden_row_is_refused_whole_naming_the_row(ruled):
    sheet = b"sku,title\nA,mug\nB,forbidden bowl\n"

    answer = ruled.post("/v1/batches", data={"file": (io.BytesIO(sheet), "a.csv")})

    assert answer.status_code == 400
    assert [error["pointer"] for error in answer.json["errors"]] == ["/rows/3/white", "/rows/3/scene"]
    assert ruled.get("/v1/jobs").json["data"] == []

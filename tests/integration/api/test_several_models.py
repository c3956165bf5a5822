"""A service with two models: listed, asked for by their ids, drawn by their own workers."""

import io
import json
from dataclasses import replace

import pytest

from api.app import create_app
from api.parts import build_services
from core.workers import WorkerInfo

BODY = {"prompt": "a red mug", "seed": 7}


@pytest.fixture
def both(settings, valkey, tmp_path):
    """The parts of an api that serves Z-Image-Turbo and `painter`."""
    folder = tmp_path / "painter"
    folder.mkdir()
    shapes = {"square": [512, 512], "portrait": [384, 512], "landscape": [512, 384]}
    (folder / "zimg.json").write_text(json.dumps({"id": "painter", "revision": "r2", **shapes}))
    made = build_services(replace(settings, models=(str(folder),)))
    for name, queue in (("w1", ""), ("w2", "painter")):
        made.jobs.heartbeat(WorkerInfo(name=name, slots=4, queue=queue, started_ms=1))
    yield made
    made.hub.close()
    made.redis.close()


@pytest.fixture
def http(both):
    return create_app(both).test_client()


def test_both_are_listed_the_default_first(http):
    listed = http.get("/v1/models").json["data"]

    assert [(model["id"], model["default_size"]) for model in listed] == [
        ("z-image-turbo", "1024x1024"),
        ("painter", "512x512"),
    ]
    assert http.get("/v1/models/painter").json["revision"] == "r2"
    assert http.get("/v1/models/other").status_code == 404


def test_a_job_is_drawn_by_the_model_it_names_in_that_models_size(http, both):
    plain, named = (http.post("/v1/jobs", json=body).json for body in (BODY, {**BODY, "model": "painter"}))

    assert plain["model"] == {"id": "z-image-turbo", "revision": "main"}
    assert named["model"] == {"id": "painter", "revision": "r2"}
    assert named["effective_parameters"] | {"model": "painter", "size": "512x512"} == named["effective_parameters"]
    assert {one.job_id: one.queue for one in both.jobs.release(10)} == {plain["id"]: "", named["id"]: "painter"}


def test_the_same_request_to_two_models_is_two_pictures_and_to_one_model_one(http):
    ids = [
        http.post("/v1/jobs", json={**BODY, "metadata": {"n": n}, **model}).json["dedup"]["hit"]
        for n, model in enumerate(({}, {"model": "painter"}, {"model": "painter"}, {"model": "z-image-turbo"}))
    ]

    assert ids == [False, False, True, True]


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/images/generations"])
def test_an_unknown_model_is_refused_by_name_and_nothing_is_stored(http, both, path):
    refused = http.post(path, json={**BODY, "model": "gpt-image-1"})

    assert (refused.status_code, refused.json["code"]) == (400, "invalid_request")
    assert refused.json["error"]["param"] == "model"
    assert "painter" in refused.json["detail"]
    assert both.jobs.depth().waiting == {"interactive": 0, "batch": 0}


def test_a_list_names_its_model_too(http, both):
    def send(model):
        sheet = (io.BytesIO(b"sku,title\nA1,red mug\n"), "list.csv")
        return http.post("/v1/batches", data={"file": sheet, "model": model}, content_type="multipart/form-data")

    assert send("nothing").status_code == 400
    assert send("painter").status_code == 202
    assert {one.queue for one in both.jobs.release(10)} == {"painter"}


def test_with_one_model_openais_clients_may_name_any_and_jobs_only_that_one(settings, parts):
    http = create_app(parts).test_client()

    assert http.post("/v1/jobs", json={**BODY, "model": "gpt-image-1"}).status_code == 400
    assert http.post("/v1/jobs", json={**BODY, "model": "z-image-turbo"}).status_code == 202

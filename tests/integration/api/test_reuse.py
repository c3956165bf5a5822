"""A finished picture is shared only while its object is there; real Valkey, real S3."""

import io
from dataclasses import replace
from urllib.parse import urlsplit

import pytest

from api.app import create_app
from api.parts import build_services
from core.image_store import object_key
from core.trash import TrashBin
from scheduler.retention import Retention
from tests.fault_proxy import tcp_proxy
from tests.integration.api.conftest import PlayedWorker

BODY = {"prompt": "a red mug", "size": "256x256", "seed": 7}
SHEET = "sku,title\n" + "".join(f"S-{number},mug {number}\n" for number in range(1, 7))


def submit(client, **more):
    answer = client.post("/v1/jobs", json={**BODY, **more})
    assert answer.status_code == 202, answer.text
    return answer.json


def picture_of(client, job_id):
    return client.get(f"/i/{job_id}.png")


@pytest.fixture
def drawn(http, worker, parts):
    """A job whose picture is in the bucket, as the store knows it."""
    job = submit(http)
    worker.draw_all()
    return parts.jobs.get(job["id"])


def test_a_picture_that_is_there_is_shared_at_once(http, worker, drawn):
    again = submit(http, metadata={"second": "call"})

    assert again["status"] == "succeeded"
    assert picture_of(http, again["id"]).data == picture_of(http, drawn.id).data


def test_a_picture_that_was_lost_from_the_bucket_is_drawn_anew(http, worker, parts, drawn):
    parts.images.delete(drawn.picture.key)

    again = submit(http, metadata={"second": "call"})
    third = submit(http, metadata={"third": "call"})
    worker.draw_all()
    fourth = submit(http, metadata={"fourth": "call"})

    assert (again["status"], third["status"], fourth["status"]) == ("queued", "queued", "succeeded")
    assert {picture_of(http, job["id"]).status_code for job in (again, third, fourth)} == {200}
    assert picture_of(http, drawn.id).status_code == 404


def test_a_list_draws_only_the_rows_whose_pictures_were_lost(http, worker, parts):
    def states(batch):
        return [job.state for job in parts.jobs.list_jobs("local", batch_id=batch["id"], limit=100)]

    def send():
        data = {"file": (io.BytesIO(SHEET.encode()), "list.csv")}
        answer = http.post("/v1/batches", data=data, content_type="multipart/form-data")
        assert answer.status_code == 202, answer.text
        return answer.json

    send()
    worker.draw_all()
    for job in parts.jobs.list_jobs("local", limit=3):
        parts.images.delete(job.picture.key)

    again = send()

    found = states(again)
    assert len(found) == 12  # more than are looked at one by one
    assert sorted(found) == ["QUEUED"] * 3 + ["SUCCEEDED"] * 9


@pytest.mark.parametrize("trouble", ["refuses", "frozen"])
def test_while_the_storage_is_away_a_picture_is_drawn_anew_rather_than_promised(
    settings, worker, drawn, storage_environment, trouble
):
    with tcp_proxy(urlsplit(storage_environment["S3_ENDPOINT_URL"]).port) as proxy:
        parts = build_services(replace(settings, s3_endpoint_url=f"http://127.0.0.1:{proxy.port}"))
        client = create_app(parts).test_client()
        setattr(proxy, trouble, True)

        again = submit(client, metadata={"second": "call"})
        setattr(proxy, trouble, False)
        PlayedWorker(worker.store, worker.images).draw_all()
        parts.hub.close()

        assert again["status"] == "queued"
        assert worker.store.get(again["id"]).state == "SUCCEEDED"


def test_who_deletes_a_job_leaves_the_picture_to_the_others_that_show_it(http, worker, drawn):
    again = submit(http, metadata={"second": "call"})

    assert http.delete(f"/v1/jobs/{drawn.id}").status_code == 204

    assert picture_of(http, drawn.id).status_code == 410
    assert picture_of(http, again["id"]).status_code == 200


def test_the_picture_of_a_deleted_job_leaves_the_storage_once_nobody_shows_it(http, worker, parts, drawn):
    again = submit(http, metadata={"second": "call"})
    retention = Retention(parts.jobs, TrashBin(parts.redis, object_key), parts.images)

    http.delete(f"/v1/jobs/{drawn.id}")
    retention.turn()
    while_shown = parts.images.head(drawn.picture.key)
    http.delete(f"/v1/jobs/{again['id']}")
    retention.turn()

    assert while_shown is not None
    assert parts.images.head(drawn.picture.key) is None

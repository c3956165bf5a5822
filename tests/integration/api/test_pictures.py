"""/i/{id}: one address for ever, as browsers and importers use it."""

import io
import random

import pytest
from PIL import Image


@pytest.fixture
def drawn(http, worker):
    """A finished job's id and its bytes."""
    job = http.post("/v1/jobs", json={"prompt": "a", "size": "512x256", "seed": 5}).json
    return job["id"], worker.draw_all()[job["id"]]


def test_head_tells_type_and_length_without_the_bytes(http, drawn):
    job_id, png = drawn

    answer = http.head(f"/i/{job_id}.png")

    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "image/png"
    assert int(answer.headers["Content-Length"]) == len(png)
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.data == b""


@pytest.mark.parametrize(
    ("wanted", "start", "stop"),
    [("bytes=0-99", 0, 100), ("bytes=100-", 100, None), ("bytes=-50", -50, None), ("bytes=5-5", 5, 6)],
)
def test_a_range_is_answered_with_just_those_bytes(http, drawn, wanted, start, stop):
    job_id, png = drawn

    answer = http.get(f"/i/{job_id}.png", headers={"Range": wanted})

    assert answer.status_code == 206
    assert answer.data == png[start:stop]
    assert answer.headers["Content-Range"].endswith(f"/{len(png)}")


@pytest.mark.parametrize("more", [0, 1, 10**9])
def test_the_last_bytes_of_as_many_as_there_are_or_more_are_the_whole(http, drawn, more):
    """RFC 9110, 14.1.2; it was a 416."""
    job_id, png = drawn

    answer = http.get(f"/i/{job_id}.png", headers={"Range": f"bytes=-{len(png) + more}"})

    assert (answer.status_code, answer.data) == (200, png)


def test_a_picture_that_is_another_than_wanted_is_not_sent(http, drawn):
    job_id, _ = drawn

    answer = http.get(f"/i/{job_id}.png", headers={"If-Match": '"another"'})

    assert (answer.status_code, answer.data) == (412, b"")


def test_a_range_outside_the_file_is_416_and_tells_the_size(http, drawn):
    job_id, png = drawn

    answer = http.get(f"/i/{job_id}.png", headers={"Range": "bytes=99999999-"})

    assert answer.status_code == 416
    assert answer.headers["Content-Range"] == f"bytes */{len(png)}"


def test_a_picture_that_the_browser_has_is_not_sent_again(http, drawn):
    job_id, _ = drawn
    first = http.get(f"/i/{job_id}.png")

    again = http.get(f"/i/{job_id}.png", headers={"If-None-Match": first.headers["ETag"]})

    assert first.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert (again.status_code, again.data) == (304, b"")


def test_download_asks_the_browser_to_save_under_a_telling_name(http, drawn):
    job_id, _ = drawn

    assert http.get(f"/i/{job_id}.png").headers["Content-Disposition"].startswith("inline")
    assert http.get(f"/i/{job_id}.png?download").headers["Content-Disposition"] == (
        f'attachment; filename="zimg-5-{job_id[:8]}.png"'
    )


def test_any_page_may_show_a_picture(http, drawn):
    answer = http.get(f"/i/{drawn[0]}.png", headers={"Origin": "https://shop.example"})

    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"


def test_a_thumbnail_is_a_small_webp(http, drawn):
    job_id, png = drawn

    answer = http.get(f"/i/{job_id}.webp?w=300")

    with Image.open(io.BytesIO(answer.data)) as small:
        assert (small.format, small.size) == ("WEBP", (320, 160))
    assert len(answer.data) < len(png)
    again = http.get(f"/i/{job_id}.webp?w=300", headers={"If-None-Match": answer.headers["ETag"]})
    assert again.status_code == 304


@pytest.mark.parametrize("width", [320, 640])
def test_what_a_history_loads_is_at_most_25_kb_each_even_of_noise(http, worker, width):
    job = http.post("/v1/jobs", json={"prompt": "noise", "size": "1024x1024", "seed": 5}).json
    (lease,) = worker.claim()
    out = io.BytesIO()
    Image.frombytes("RGB", (1024, 1024), random.Random(5).randbytes(1024 * 1024 * 3)).save(out, "PNG", compress_level=1)
    worker.keep(lease, out.getvalue())

    data = http.get(f"/i/{job['id']}.webp?w={width}").data

    assert len(data) <= 25_000
    with Image.open(io.BytesIO(data)) as small:
        assert small.width == width


def test_a_thumbnail_never_enlarges(http, drawn):
    with Image.open(io.BytesIO(http.get(f"/i/{drawn[0]}.webp?w=1024").data)) as small:
        assert small.size == (512, 256)


@pytest.mark.parametrize("width", ["0", "-1", "x", "99999", "³"])
def test_a_thumbnail_of_an_impossible_width_is_refused(http, drawn, width):
    answer = http.get(f"/i/{drawn[0]}.webp?w={width}")

    assert (answer.status_code, answer.json["field"]) == (400, "w")


def test_provenance_says_what_made_the_picture(http, drawn):
    answer = http.get(f"/i/{drawn[0]}.json").json

    assert answer["parameters"]["seed"] == 5
    assert answer["parameters"]["prompt"] == "a"
    assert answer["digital_source_type"].endswith("trainedAlgorithmicMedia")


@pytest.mark.parametrize(
    "name", ["0" * 32 + ".png", "x.png", "..%2f..%2fetc%2fpasswd.png", "0" * 32 + ".webp", "0" * 32 + ".json"]
)
def test_an_unknown_picture_is_404(http, parts, name):
    assert http.get(f"/i/{name}").status_code == 404


def test_an_unfinished_picture_is_404(http, worker):
    job = http.post("/v1/jobs", json={"prompt": "a"}).json

    assert http.get(f"/i/{job['id']}.png").status_code == 404


def test_an_object_lost_from_storage_is_an_error_not_an_empty_picture(http, drawn, parts):
    job = parts.jobs.get(drawn[0])
    parts.images.delete(job.picture.key)

    answer = http.get(f"/i/{drawn[0]}.png")

    assert answer.status_code >= 404
    assert answer.content_type == "application/problem+json"


@pytest.mark.parametrize(
    ("language", "words"),
    [("en", "This picture expired or was deleted."), ("zh-CN", "这张图片已过期或被删除。")],
)
def test_a_person_who_opens_a_link_that_has_ended_reads_a_page(http, drawn, language, words):
    http.delete(f"/v1/jobs/{drawn[0]}")
    browser = {"Accept": "text/html,application/xhtml+xml,image/webp,*/*;q=0.8", "Accept-Language": language}

    read = http.get(f"/i/{drawn[0]}.png", headers=browser)
    program = http.get(f"/i/{drawn[0]}.png", headers={"Accept": "image/avif,image/*,*/*;q=0.8"})

    assert (read.status_code, read.mimetype) == (410, "text/html")
    assert words in read.text
    assert read.headers["Content-Language"] == language
    assert (program.status_code, program.mimetype) == (410, "application/problem+json")


def test_a_page_about_a_wrong_address_shows_nothing_of_it_as_markup(http, parts):
    read = http.get("/<script>alert(1)</script>", headers={"Accept": "text/html"})

    assert (read.status_code, read.mimetype) == (404, "text/html")
    assert "<script" not in read.text
    assert http.get("/v1/nope", headers={"Accept": "text/html"}).mimetype == "application/problem+json"

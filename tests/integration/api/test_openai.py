"""OpenAI's own client against us, with nothing changed but `base_url`."""

import base64
import hashlib
import io
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import openai
import pytest
from openai import OpenAI
from PIL import Image

from core.job import Picture
from tests.integration.api.conftest import eventually, live_api, use_up


@pytest.fixture
def client(live):
    with OpenAI(base_url=f"{live.url}/v1", api_key="none", max_retries=0, timeout=30) as made:
        yield made


@pytest.fixture
def working(worker):
    """A worker that draws whatever comes."""
    with worker.at_work():
        yield worker


def test_generate_gives_a_url_under_which_the_picture_is(client, working):
    made = client.images.generate(model="z-image-turbo", prompt="a red mug", size="512x512")

    picture = httpx.get(made.data[0].url, timeout=20)
    with Image.open(io.BytesIO(picture.content)) as opened:
        assert (opened.format, opened.size) == ("PNG", (512, 512))
    assert made.data[0].b64_json is None
    assert made.created > 0


def test_generate_gives_base64_when_asked(client, working, parts):
    made = client.images.generate(model="any", prompt="a red mug", size="256x256", response_format="b64_json", n=3)

    pictures = [base64.b64decode(image.b64_json) for image in made.data]
    jobs = parts.jobs.list_jobs("local")
    assert all(image.url is None for image in made.data)
    assert {hashlib.sha256(picture).hexdigest() for picture in pictures} == {job.picture.sha256 for job in jobs}
    assert len(jobs) == 3


@pytest.mark.parametrize("model", ["gpt-image-1", "chatgpt-image-latest"])
def test_code_written_for_openais_present_models_gets_what_it_decodes(client, working, model):
    """Their samples name no format and decode b64_json, which was None."""
    made = client.images.generate(model=model, prompt="a red mug", size="256x256")

    assert base64.b64decode(made.data[0].b64_json).startswith(b"\x89PNG")
    assert made.data[0].url is None


def test_size_auto_is_the_models_own(client, working):
    assert client.images.generate(model="m", prompt="a", size="auto").size == "1024x1024"


def test_parameters_that_the_preset_decides_are_taken_and_named(client, working):
    raw = client.images.with_raw_response.generate(
        model="m", prompt="a", size="256x256", quality="high", style="vivid", background="opaque",
        moderation="low", output_format="png", output_compression=80, user="u-1",
        extra_body={"steps": 50, "guidance_scale": 7.5, "negative_prompt": "blur", "seed": 3},
    )  # fmt: skip

    ignored = set(raw.headers["X-Zimg-Ignored"].split(", "))
    made = raw.parse()
    assert {"steps", "guidance_scale", "negative_prompt", "quality", "style", "user"} <= ignored
    assert "output_format" not in ignored
    assert made.effective_parameters["seed"] == 3
    assert made.effective_parameters["steps"] == 4
    locked = {
        "negative_prompt": "", "quality": "auto", "style": "", "background": "opaque", "moderation": "auto",
        "output_format": "png", "output_compression": 100, "partial_images": 0,
    }  # fmt: skip
    assert made.effective_parameters | locked == made.effective_parameters


def test_openais_larger_sizes_are_drawn_in_their_shape_and_named(client, working):
    raw = client.images.with_raw_response.generate(model="z-image-turbo", prompt="a", size="1536x1024")

    made = raw.parse()
    assert (made.size, made.effective_parameters["size"]) == ("1248x832", "1248x832")
    assert raw.headers["X-Zimg-Ignored"] == "size"


def test_a_model_by_another_name_is_named_among_what_changed_nothing(client, working):
    raw = client.images.with_raw_response.generate(model="gpt-image-1", prompt="a", size="256x256")

    assert raw.headers["X-Zimg-Ignored"] == "model"
    assert raw.parse().effective_parameters["model"] == "z-image-turbo"


def test_stream_gives_typed_completed_events(client, working):
    events = list(client.images.generate(model="m", prompt="a", size="256x256", n=2, stream=True))

    assert [event.type for event in events] == ["image_generation.completed"] * 2
    with Image.open(io.BytesIO(base64.b64decode(events[0].b64_json))) as opened:
        assert opened.size == (256, 256)
    assert events[0].usage.total_tokens == 0


def test_a_stream_whose_picture_can_not_be_read_ends_with_openais_error(client, worker):
    def draw_and_store_nothing():
        (lease,) = eventually(worker.claim)
        nowhere = Picture(key="lost/picture.png", sha256="0" * 64, width=256, height=256, size_bytes=1)
        worker.store.complete(lease.job_id, lease.token, nowhere)

    threading.Thread(target=draw_and_store_nothing).start()

    with pytest.raises(openai.APIError, match="There is no such picture"):
        list(client.images.generate(model="z-image-turbo", prompt="a", size="256x256", stream=True))


@pytest.mark.parametrize(("call", "more"), [("edit", {"prompt": "a"}), ("create_variation", {})])
def test_edits_which_do_not_exist_here_are_refused_with_what_does(client, call, more):
    with pytest.raises(openai.NotFoundError, match=r"draws from words alone.*POST /v1/images/generations"):
        getattr(client.images, call)(model="z-image-turbo", image=b"x", **more)


def test_models_are_listed(client, parts):
    assert [model.id for model in client.models.list()] == ["z-image-turbo"]
    assert client.models.retrieve("z-image-turbo").owned_by == "zimg"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-image-1")


@pytest.mark.parametrize(
    ("wrong", "param", "code"),
    [
        ({"prompt": ""}, "prompt", "empty_prompt"),
        ({"prompt": "a", "size": "17x5000"}, "size", "invalid_size"),
        ({"prompt": "a", "n": 99}, "n", "out_of_range"),
        ({"prompt": "a", "response_format": "gif"}, "response_format", "out_of_range"),
        ({"prompt": "a", "extra_body": {"seed": -1}}, "seed", "out_of_range"),
    ],
)
def test_a_wrong_request_raises_the_clients_own_error_with_field_and_code(client, worker, wrong, param, code):
    with pytest.raises(openai.BadRequestError) as refused:
        client.images.generate(model="m", **wrong)

    assert (refused.value.param, refused.value.code, refused.value.type) == (param, code, "invalid_request_error")
    assert refused.value.request_id


def test_a_wrong_key_raises_the_clients_own_error(settings, parts, tmp_path):
    with live_api(settings, tmp_path, ZIMG_HOST="0.0.0.0", ZIMG_ADMIN_KEY="the-operators-own-key") as api:
        client = OpenAI(base_url=f"{api.url}/v1", api_key="zimg_wrong", max_retries=0)
        with pytest.raises(openai.AuthenticationError):
            client.images.generate(model="m", prompt="a")


def test_over_the_limit_raises_the_clients_rate_limit_error_at_once(client, worker, parts):
    use_up(parts)

    with pytest.raises(openai.RateLimitError) as refused:
        client.with_options(max_retries=2).images.generate(model="m", prompt="a")

    assert refused.value.code == "quota_exceeded"
    assert refused.value.response.headers["x-should-retry"] == "false"


def test_more_than_the_limits_ever_allow_raises_the_clients_bad_request_error(client, worker, parts):
    parts.tenants.change("local", {"daily_units": 2})

    with pytest.raises(openai.BadRequestError) as refused:
        client.with_options(max_retries=2).images.generate(model="m", prompt="a", n=3)

    assert (refused.value.code, refused.value.param) == ("exceeds_limits", "n")
    assert "send at most 2 at once" in refused.value.message
    assert "Retry-After" not in refused.value.response.headers
    assert parts.jobs.list_jobs("local") == []


def test_a_failed_job_raises_at_once_and_is_not_drawn_again(client, worker, parts):
    def fail_first():
        for lease in eventually(worker.claim):
            worker.fail(lease, "generation_failed")

    thread = threading.Thread(target=fail_first)
    thread.start()
    with pytest.raises(openai.InternalServerError) as failed:
        client.with_options(max_retries=2).images.generate(model="m", prompt="a", size="256x256")
    thread.join(timeout=60)

    assert failed.value.code == "generation_failed"
    assert len(parts.jobs.list_jobs("local")) == 1


def test_a_retry_of_a_slow_call_joins_the_running_job(settings, parts, worker, tmp_path):
    with live_api(settings, tmp_path, ZIMG_SYNC_WAIT_SECONDS="1") as api:
        client = OpenAI(base_url=f"{api.url}/v1", api_key="none", max_retries=5, timeout=30)
        made = []
        thread = threading.Thread(
            target=lambda: made.append(client.images.generate(model="m", prompt="slow", size="256x256"))
        )
        thread.start()
        lease = eventually(worker.claim)[0]
        started = parts.jobs.get(lease.job_id).created_ms
        # Longer than the first call may wait: the client comes again by itself.
        eventually(lambda: int(parts.redis.time()[0]) * 1000 - started > 2500)
        worker.finish(lease)
        thread.join(timeout=20)

    assert made[0].data[0].url.endswith(f"/i/{lease.job_id}.png")
    assert len(parts.jobs.list_jobs("local")) == 1


def test_retries_of_equal_calls_join_each_its_own_job(settings, parts, worker, tmp_path):
    with live_api(settings, tmp_path, ZIMG_SYNC_WAIT_SECONDS="1") as api:
        client = OpenAI(base_url=f"{api.url}/v1", api_key="none", max_retries=8, timeout=30)
        with ThreadPoolExecutor(3) as threads:
            calls = [
                threads.submit(client.images.generate, model="m", prompt="the same", size="256x256") for _ in range(3)
            ]
            eventually(lambda: len(parts.jobs.list_jobs("local")) == 3)
            started = max(job.created_ms for job in parts.jobs.list_jobs("local"))
            eventually(lambda: int(parts.redis.time()[0]) * 1000 - started > 2500)
            with worker.at_work():
                urls = {call.result(timeout=30).data[0].url for call in calls}

    assert len(urls) == 3
    assert len(parts.jobs.list_jobs("local")) == 3


def test_calls_that_a_limit_sent_away_draw_each_its_own_picture_when_they_come_again(client, working, parts):
    local = parts.tenants.local()
    parts.tenants.save(replace(local, limits=replace(local.limits, burst=1, burst_per_second=2)))
    again = client.with_options(max_retries=10)

    with ThreadPoolExecutor(4) as threads:
        calls = [threads.submit(again.images.generate, model="m", prompt="same", size="256x256") for _ in range(4)]
        urls = {call.result(timeout=60).data[0].url for call in calls}

    assert len(urls) == 4
    assert len(parts.jobs.list_jobs("local")) == 4


def test_a_retry_joins_the_call_whose_connection_broke(live, worker, parts):
    """The client hung up while its job waited; the api does not know that, and the retry finds the same job."""
    body = {"prompt": "a", "size": "256x256"}
    url = f"{live.url}/v1/images/generations"
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(url, json=body, headers={"x-stainless-retry-count": "0"}, timeout=1)
    eventually(lambda: parts.jobs.list_jobs("local"))
    with worker.at_work():
        answer = httpx.post(url, json=body, headers={"x-stainless-retry-count": "1"}, timeout=30)

    assert answer.headers["Idempotency-Replayed"] == "true"
    assert len(parts.jobs.list_jobs("local")) == 1


def test_two_equal_calls_that_are_no_retries_draw_two_pictures(client, working, parts):
    urls = {client.images.generate(model="m", prompt="same", size="256x256").data[0].url for _ in range(2)}

    assert len(urls) == 2


def test_the_same_words_three_times_are_three_jobs_though_the_client_had_to_come_again(client, worker, parts):
    local = parts.tenants.local()
    parts.tenants.save(replace(local, limits=replace(local.limits, burst=1, burst_per_second=2)))
    again = client.with_options(max_retries=10)

    ids = {again.post("/jobs", body={"prompt": "same", "size": "256x256"}, cast_to=object)["id"] for _ in range(3)}

    assert len(ids) == 3


def test_an_idempotency_key_makes_a_repeated_call_answer_with_the_same_picture(client, working):
    headers = {"Idempotency-Key": "order-1"}
    first, again = (
        client.images.generate(model="m", prompt="same", size="256x256", extra_headers=headers) for _ in range(2)
    )

    assert first.data[0].url == again.data[0].url


def test_a_call_that_takes_too_long_says_where_its_job_is(settings, parts, worker, tmp_path):
    with live_api(settings, tmp_path, ZIMG_SYNC_WAIT_SECONDS="1") as api:
        answer = httpx.post(f"{api.url}/v1/images/generations", json={"prompt": "a"}, timeout=20)

    assert (answer.status_code, answer.json()["code"]) == (503, "still_running")
    assert answer.headers["Retry-After"] == "2"
    assert answer.json()["job_urls"][0].startswith(f"{api.url}/v1/jobs/")


#: As Open WebUI 0.12 posts them: its default form, and with a size and a model set by its operator.
OPEN_WEBUI_BODIES = [
    {"model": "z-image-turbo", "prompt": "a red mug", "n": 1, "size": "512x512", "response_format": "b64_json"},
    {
        "model": "z-image-turbo",
        "prompt": "a red mug",
        "n": 1,
        "size": "1024x1024",
        "steps": 50,
        "negative_prompt": "text",
    },
]


@pytest.mark.parametrize("body", OPEN_WEBUI_BODIES)
def test_open_webuis_requests_work_as_recorded(live, working, body):
    answer = httpx.post(
        f"{live.url}/v1/images/generations", json=body, headers={"Authorization": "Bearer x"}, timeout=30
    )

    image = answer.json()["data"][0]
    png = base64.b64decode(image["b64_json"]) if "b64_json" in image else httpx.get(image["url"], timeout=20).content
    with Image.open(io.BytesIO(png)) as opened:
        assert f"{opened.width}x{opened.height}" == body["size"]

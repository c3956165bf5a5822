"""Thirty people's prompts over HTTP, four at a time, while the worker is killed once: the main job, end to end."""

import collections
import hashlib
import io
from concurrent.futures import ThreadPoolExecutor

import httpx
from PIL import Image

from tests.acceptance.prompts import PROMPTS
from tests.fixtures.stack import Stack, wait_until

TERMINAL = {"succeeded", "failed", "canceled", "expired"}
JOB_SECONDS = 240.0


def submit(http: httpx.Client, prompt: str, key: str = "", **more: object) -> dict:
    headers = {"Idempotency-Key": key} if key else {}
    answer = http.post("/v1/jobs", json={"prompt": prompt, **more}, headers=headers)
    assert answer.status_code == 202, answer.text
    return answer.json()


def finish(http: httpx.Client, job_id: str) -> dict:
    """The job in its terminal state."""
    job: dict = {}

    def is_over() -> bool:
        job.update(http.get(f"/v1/jobs/{job_id}", params={"wait": 20}).json())
        return job["status"] in TERMINAL

    wait_until(is_over, seconds=JOB_SECONDS, why=lambda: str(job))
    return job


def charges(stack: Stack) -> collections.Counter:
    """(job, kind) -> how often the ledger has it."""
    entries = stack.redis().xrange("{zimg}:ledger")
    return collections.Counter((fields["job"], fields["kind"]) for _, fields in entries)


def test_thirty_prompts_become_thirty_pictures_though_the_worker_is_killed_once(stack: Stack):
    assert len(set(PROMPTS)) == 30
    done: list[dict] = []

    def draw(prompt: str) -> dict:
        with stack.http as http:
            job = finish(http, submit(http, prompt)["id"])
        done.append(job)
        return job

    with ThreadPoolExecutor(4) as four, stack.http as http:
        jobs = four.map(draw, PROMPTS)
        wait_until(
            lambda: len(done) >= 8 and bool(http.get("/v1/jobs", params={"status": "running"}).json()["data"]),
            seconds=120,
        )
        killed = stack.program("worker")
        killed.kill()
        jobs = list(jobs)

    assert [job["status"] for job in jobs] == ["succeeded"] * 30, [job["error"] for job in jobs]
    assert stack.program("worker").pid != killed.pid
    assert any(job["attempts"] > 1 for job in jobs)
    assert_thirty_pictures(stack, jobs)
    booked = charges(stack)
    assert {kind: booked[job["id"], kind] for job in jobs for kind in ("charge", "refund")} == {
        "charge": 1,
        "refund": 0,
    }
    assert all(booked[job["id"], "charge"] == 1 for job in jobs)


def assert_thirty_pictures(stack: Stack, jobs: list[dict]) -> None:
    """Each job's bytes are a PNG of its size, match the recorded hash, and are nobody else's."""
    hashes = set()
    with stack.http as http:
        for job in jobs:
            [image] = job["images"]
            body = http.get(image["url"]).content
            assert hashlib.sha256(body).hexdigest() == image["sha256"]
            picture = Image.open(io.BytesIO(body))
            picture.load()
            assert picture.format == "PNG"
            assert picture.size == (image["width"], image["height"])
            assert any(low != high for low, high in picture.convert("RGB").getextrema())
            hashes.add(image["sha256"])
    assert len(hashes) == 30


def test_the_same_request_with_the_same_seed_gives_the_same_bytes(stack: Stack):
    with stack.http as http:
        first = finish(http, submit(http, "a green apple", key="one", seed=7)["id"])
        second = finish(http, submit(http, "a green apple", key="another", seed=7)["id"])

    assert first["id"] != second["id"]
    assert first["images"][0]["sha256"] == second["images"][0]["sha256"]


def test_the_picture_says_how_it_was_made_and_nothing_of_job_or_clock(stack: Stack):
    with stack.http as http:
        job = finish(http, submit(http, "霓虹灯+暗夜雨景", seed=11)["id"])
        picture = Image.open(io.BytesIO(http.get(job["images"][0]["url"]).content))

    said = " ".join(f"{name}={value}" for name, value in picture.text.items())
    assert "霓虹灯+暗夜雨景" in said
    assert "11" in said
    assert job["preset"] in said
    assert job["id"] not in said

"""The local service as a person has it: stops, kills, second starts, outside parts."""

import re
import signal
import subprocess
import sys
import time

import httpx
import psutil
import pytest

from deploy.local.launcher import LAST_RUN_SECONDS, STOP_SECONDS
from deploy.local.ports import choose_ports
from tests.acceptance.test_real_life import finish, submit
from tests.fixtures.s3 import S3Server
from tests.fixtures.stack import ROOT, Stack, lives, wait_until
from tests.fixtures.tools import require_tool


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_ends_by_its_deadline_and_loses_no_job(spare_stack: Stack, number):
    service = spare_stack
    with service.http as http:
        jobs = [submit(http, f"picture {index}")["id"] for index in range(8)]

    seconds = service.stop(number)

    assert seconds < STOP_SECONDS + 11, "a machine that stands still adds to it"
    assert service.launcher.returncode == 0
    assert service.processes() == []
    assert not service.is_in_use()
    service.start()
    with service.http as http:
        assert [finish(http, job)["status"] for job in jobs] == ["succeeded"] * 8


def test_killing_the_supervisor_leaves_no_orphan_and_the_next_start_loses_nothing(spare_stack: Stack):
    service = spare_stack
    with service.http as http:
        jobs = [submit(http, f"picture {index}")["id"] for index in range(8)]
    family = service.supervisor().children(recursive=True)
    assert len(family) >= 6

    service.supervisor().kill()

    assert service.launcher.wait(timeout=60) == 1
    psutil.wait_procs(family, timeout=LAST_RUN_SECONDS)
    assert [process for process in family if lives(process)] == []
    assert service.processes() == []
    service.start()
    with service.http as http:
        assert [finish(http, job)["status"] for job in jobs] == ["succeeded"] * 8


def test_killing_the_launcher_stops_everything_and_a_start_at_once_waits_for_that(spare_stack: Stack):
    service = spare_stack
    family = service.supervisor().children(recursive=True)

    service.launcher.kill()
    service.launcher.wait()
    service.start()

    assert [process for process in family if lives(process)] == []
    assert httpx.get(f"{service.url}/readyz", timeout=20).status_code == 200


def test_killing_make_stops_everything(tmp_path):
    port, data_dir = choose_ports(["api"])["api"], tmp_path / "data"
    make = subprocess.Popen(
        ["make", "--no-print-directory", "run", f"PORT={port}", f"DATA_DIR={data_dir}", f"VENV={sys.prefix}"],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert any("ready after" in line for line in make.stdout), "it never became ready"
    service = Stack(data_dir=data_dir, port=port)

    make.kill()
    make.wait()

    wait_until(lambda: service.processes() == [], seconds=25, why=lambda: str(service.processes()))


def test_a_second_start_on_the_same_folder_is_refused_with_a_sentence(stack):
    command = [sys.executable, "-m", "deploy.local", "--port", "1", "--data-dir", stack.data_dir]

    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert refused.returncode == 2
    assert re.search(r"Another zimg \(process \d+\) runs on the data folder", refused.stderr)
    assert httpx.get(f"{stack.url}/healthz", timeout=20).json()["status"] == "ok"


def test_a_taken_port_is_refused_with_a_sentence(stack, tmp_path):
    command = [sys.executable, "-m", "deploy.local", "--port", str(stack.port), "--data-dir", tmp_path / "data"]

    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert refused.returncode == 2
    assert f"make run PORT={stack.port + 1}" in refused.stderr


def test_two_services_live_side_by_side_and_know_nothing_of_each_other(stack, spare_stack: Stack):
    other = spare_stack
    with stack.http as http, other.http as other_http:
        here, there = submit(http, "here")["id"], submit(other_http, "there")["id"]

        assert finish(http, here)["status"] == finish(other_http, there)["status"] == "succeeded"
        assert http.get(f"/v1/jobs/{there}").status_code == 404
        assert other_http.get(f"/v1/jobs/{here}").status_code == 404


def test_a_worker_that_hangs_is_killed_and_its_job_still_ends(own_stack):
    service: Stack = own_stack(ZIMG_PROGRESS_STALE_SECONDS="10", ZIMG_LEASE_SECONDS="5", ZIMG_CLAIM_SECONDS="8")
    # On a machine that itself stood still for a while the keeper may have had it started anew.
    wait_until(lambda: service.program("worker").children(), seconds=60, why=lambda: service.log("keeper"))
    parent = service.program("worker")
    (hanging,) = parent.children()
    progress = service.data_dir / "worker.progress"
    first = progress.stat().st_mtime_ns
    wait_until(lambda: progress.stat().st_mtime_ns != first, seconds=30)

    time_stopped = time.monotonic()
    hanging.suspend()  # every thread stands still, as under a lock that nobody gives back
    with service.http as http:
        job = submit(http, "after the hang")["id"]
        wait_until(lambda: not hanging.is_running(), seconds=60, why=lambda: service.log("keeper"))

        assert time.monotonic() - time_stopped >= 10
        assert finish(http, job)["status"] == "succeeded"
    assert f"worker {parent.pid} makes no progress" in service.log("keeper")
    assert not parent.is_running(), "its parent knows nothing of it, so both are started anew"


def test_a_program_that_dies_is_started_again(spare_stack: Stack):
    service = spare_stack
    for name in ("scheduler", "api", "storage", "redis"):
        before = service.program(name)
        before.kill()
        wait_until(lambda old=before: not old.is_running(), seconds=10)

    with service.http as http:
        wait_until(lambda: is_ready(service), seconds=60, why=lambda: service.output)
        assert finish(http, submit(http, "after all that")["id"])["status"] == "succeeded"


def is_ready(service: Stack) -> bool:
    try:
        return httpx.get(f"{service.url}/readyz", timeout=10).status_code == 200
    except httpx.HTTPError:
        return False


def test_an_outside_redis_and_an_outside_storage_replace_the_embedded_ones(own_stack, tmp_path, s3_server: S3Server):
    port = choose_ports(["redis"])["redis"]
    redis_server = subprocess.Popen(
        [require_tool("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--dir", tmp_path,
         "--appendonly", "yes", "--appendfsync", "always", "--save", "", "--maxmemory-policy", "noeviction"],
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        service: Stack = own_stack(REDIS_URL=f"redis://127.0.0.1:{port}/0", **s3_server.environment)
        with service.http as http:
            job = finish(http, submit(http, "outside parts")["id"])
            picture = http.get(job["images"][0]["url"])

        assert picture.content.startswith(b"\x89PNG")
        assert service.redis().hget(f"{{zimg}}:job:{job['id']}", "state") == "SUCCEEDED"
        assert {child.name() for child in service.supervisor().children()} & {"weed", "valkey-server"} == set()
        assert not (service.data_dir / "valkey").exists()
        assert service.stop() < STOP_SECONDS + 11
    finally:
        redis_server.terminate()
        redis_server.wait(timeout=60)


def test_prompts_and_secrets_are_in_no_log(stack):
    with stack.http as http:
        finish(http, submit(http, "zanzibar-canary-prompt")["id"])

    logs = [path.read_text(errors="replace") for path in (stack.data_dir / "logs").iterdir()]
    assert len(logs) >= 6
    assert not any("zanzibar-canary" in text for text in logs)
    password = stack.redis().connection_pool.connection_kwargs["password"]
    assert not any(password in text for text in logs)

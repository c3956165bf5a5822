"""The `zimg` command as a person uses it: a process, its two outputs, and its exit code."""

import calendar
import csv
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from PIL import Image

from core.job import GenerationRequest
from core.settings import Settings
from scheduler.webhooks import Webhooks
from tests.fixtures.redis import free_port
from tests.integration.api.conftest import ROOT, ended, eventually, live_api
from worker.png import encode_png


@pytest.fixture
def zimg(command):
    """Runs the command in an empty folder against the live api."""
    return lambda *arguments, **environ: ended(command(*arguments, **environ))


def test_gen_saves_the_picture_and_prints_where(zimg, worker, tmp_path):
    with worker.at_work():
        code, out, _ = zimg("gen", "a red mug", "--size", "512x256", "--seed", "7", "--out", "pictures")

    (path,) = (tmp_path / "pictures").glob("*.png")
    assert code == 0
    assert f"pictures/{path.name}" in out
    with Image.open(path) as picture:
        assert picture.size == (512, 256)


def test_gen_prints_json_on_stdout_and_nothing_else(zimg, worker):
    with worker.at_work():
        code, out, _ = zimg("gen", "a", "--size", "256x256", "-n", "2", "--json")

    made = json.loads(out)
    assert code == 0
    assert [job["status"] for job in made] == ["succeeded", "succeeded"]


def test_gen_writes_the_file_that_is_named_and_several_beside_it(zimg, worker, tmp_path):
    with worker.at_work():
        one, out, _ = zimg("gen", "a", "--size", "256x256", "-o", "new/mug.png")
        several, listed, _ = zimg("gen", "b", "--size", "256x256", "-n", "2", "-o", "mugs.PNG")
    refused, nothing, err = zimg("gen", "c", "-o", "mug.jpg")

    assert (one, several, refused, nothing) == (0, 0, 2, "")
    assert {path.name for path in tmp_path.rglob("*.*")} == {"mug.png", "mugs-1.PNG", "mugs-2.PNG"}
    assert out.strip().endswith("\tnew/mug.png")
    assert [line.split("\t")[-1] for line in listed.splitlines()] == ["mugs-1.PNG", "mugs-2.PNG"]
    assert "mug.png" in err


def test_gen_hands_on_model_priority_and_webhook(zimg, worker, parts):
    named = ("--model", parts.profile.id, "--priority", "high", "--webhook-url", "https://shop.example/hooks")
    code, out, _ = zimg("gen", "a", "--no-wait", "--json", *named)
    refused, _, err = zimg("gen", "a", "--no-wait", "--model", "painter")

    job = parts.jobs.get(json.loads(out)[0]["id"])
    assert (code, refused) == (0, 3)
    assert (job.request.model, job.priority, job.webhook_url) == (
        parts.profile.id,
        "high",
        "https://shop.example/hooks",
    )
    assert "painter" in err
    assert parts.profile.id in err


def test_gen_without_waiting_prints_the_job(zimg, worker, parts):
    code, out, _ = zimg("gen", "a", "--no-wait", "--json")

    assert code == 0
    assert parts.jobs.get(json.loads(out)[0]["id"]) is not None


@pytest.mark.parametrize(
    ("arguments", "fits"),
    [(("gen", "a", "-n", "4"), "at most 3 at once."), (("batch", "list.csv"), "at most 1 row at once")],
)
def test_more_than_the_limits_ever_allow_ends_at_once_and_says_how_much_fits(
    zimg, worker, parts, tmp_path, arguments, fits
):
    (tmp_path / "list.csv").write_text("sku,title\nA,Red mug\nB,Blue mug\n")
    parts.tenants.change("local", {"daily_units": 3})

    code, out, err = zimg(*arguments)

    assert (code, out) == (3, "")
    assert f"send {fits}" in err
    assert parts.jobs.list_jobs("local") == []


@pytest.mark.parametrize("arguments", [("gen", "a", "-n", "2"), ("batch", "list.csv")])
def test_ctrl_c_ends_the_waiting_at_once_and_says_what_goes_on(live, worker, parts, tmp_path, arguments):
    (tmp_path / "list.csv").write_text("sku,title\nA,Red mug\n")
    environ, before = {**os.environ, "PYTHONPATH": str(ROOT), "ZIMG_URL": live.url}, looks_at(live, arguments[0])
    process = subprocess.Popen(
        [sys.executable, "-m", "client", *arguments], cwd=tmp_path, env=environ,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        jobs = eventually(lambda: parts.jobs.list_jobs("local"))
        eventually(lambda: looks_at(live, arguments[0]) > before)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()

    assert (process.returncode, out) == (130, "")
    assert (jobs[0].batch_id or jobs[0].id) in err
    assert ("zimg batch --resume" in err) == (arguments[0] == "batch")
    assert not parts.jobs.get(jobs[0].id).state.is_terminal


def looks_at(live, command):
    """How often somebody looked at a job, or at a batch, at the live api."""
    path = {"gen": "job_id>", "batch": "batch_id>"}[command]
    lines = httpx.get(f"{live.url}/metrics", timeout=20).text.splitlines()
    counted = (line.split()[-1] for line in lines if line.startswith("zimg_http_requests_total{") and path in line)
    return sum(map(float, counted))


def test_a_refused_request_says_why_and_ends_with_3(zimg, worker):
    code, out, err = zimg("gen", "a", "--size", "17x5000")

    assert (code, out) == (3, "")
    assert "size" in err


def test_a_service_that_is_not_there_ends_with_4(zimg):
    code, _, err = zimg("jobs", ZIMG_URL=f"http://127.0.0.1:{free_port()}")

    assert code == 4
    assert "Is zimg running there?" in err


def test_jobs_and_cancel_show_one_line_each(zimg, worker):
    zimg("gen", "a mug\nwith a " + "long " * 20 + "handle", "--no-wait")
    _, listed, _ = zimg("jobs", "--status", "queued", TZ="UTC")
    job_id, status, handed_in, _, prompt, _ = listed.split("\t")

    assert status == "queued"
    assert time.time() - calendar.timegm(time.strptime(handed_in, "%Y-%m-%d %H:%M:%S")) < 60
    assert prompt == "a mug with a long long long long long l…"

    code, out, _ = zimg("cancel", job_id)

    assert code == 0
    assert out.split("\t")[:2] == [job_id, "canceled"]


def test_cancel_of_several_is_all_or_none_and_names_the_wrong_one(zimg, worker, parts):
    zimg("gen", "a", "-n", "2", "--no-wait")
    first, second = (job.id for job in parts.jobs.list_jobs("local"))

    refused, nothing, err = zimg("cancel", first, "f" * 32)
    untouched = parts.jobs.get(first).state
    code, out, _ = zimg("cancel", first, second)

    assert (refused, nothing, untouched) == (3, "", "QUEUED")
    assert "f" * 32 in err
    assert (code, [line.split("\t")[1] for line in out.splitlines()]) == (0, ["canceled"] * 2)


def test_batch_writes_the_list_with_links_beside_it(zimg, worker, tmp_path):
    (tmp_path / "list.csv").write_text("sku,title\nA,Red mug\nB,Blue bowl\n")

    with worker.at_work():
        code, out, err = zimg("batch", "list.csv", "--size", "256x256", "--white", "{title} on white")
        named, shown, _ = zimg("batch", "list.csv", "--size", "256x256", "-o", "made/drawn.csv", "--json")
    refused, _, _ = zimg("batch", "list.csv", "--model", "painter")

    assert (named, refused) == (0, 3)
    assert json.loads(shown)["status"] == "completed"
    assert len((tmp_path / "made" / "drawn.csv").read_text("utf-8-sig").splitlines()) == 3
    rows = list(csv.DictReader(io.StringIO((tmp_path / "list-with-pictures.csv").read_text("utf-8-sig"))))
    assert code == 0, err
    assert out.strip() == "list-with-pictures.csv"
    assert [row["white_status"] for row in rows] == ["succeeded", "succeeded"]


def test_a_wrong_list_names_every_wrong_row(zimg, worker, tmp_path):
    (tmp_path / "list.csv").write_text("sku,title\nA,\n,mug\n")

    code, _, err = zimg("batch", "list.csv")

    assert code == 3
    assert "/rows/2/title" in err
    assert "/rows/3/sku" in err


def test_keys_are_made_listed_and_revoked(settings, parts, worker, zimg, tmp_path):
    with live_api(settings, tmp_path, ZIMG_HOST="0.0.0.0", ZIMG_ADMIN_KEY="the-operators-own-key") as api:
        environ = {"ZIMG_URL": api.url, "ZIMG_ADMIN_KEY": "the-operators-own-key"}
        _, key, _ = zimg("keys", "create", "shop", "--label", "till", "--daily-units", "50", **environ)
        used, _, _ = zimg("jobs", **environ, ZIMG_API_KEY=key.strip())
        _, listed, _ = zimg("keys", "list", **environ)
        zimg("keys", "revoke", listed.split("\t")[0], **environ)
        refused, _, _ = zimg("jobs", **environ, ZIMG_API_KEY=key.strip())
        _, admins, _ = zimg("keys", "create", "boss", "--admin", **environ)
        as_admin, told, _ = zimg("keys", "list", "--json", ZIMG_URL=api.url, ZIMG_API_KEY=admins.strip())
        revoked = next(one["id"] for one in json.loads(told) if one["tenant"] == "boss")
        _, answer, _ = zimg("keys", "revoke", revoked, "--json", **environ)

    assert (as_admin, json.loads(answer)["revoked"]) == (0, True)
    assert key.startswith("zimg_")
    assert key.strip() not in listed
    assert "\t50 a day\t" in listed
    assert (used, refused) == (0, 3)


@pytest.mark.parametrize("key_id", ["nope", "0f3a", "0f3a9c2b", "0F3A9C2B"])
def test_a_key_that_is_none_is_told_with_the_command_that_lists_them(settings, parts, zimg, tmp_path, key_id):
    with live_api(settings, tmp_path, ZIMG_HOST="0.0.0.0", ZIMG_ADMIN_KEY="the-operators-own-key") as api:
        code, _, err = zimg("keys", "revoke", key_id, ZIMG_URL=api.url, ZIMG_ADMIN_KEY="the-operators-own-key")

    assert code == 3
    assert "There is no such key" in err
    assert "zimg keys list" in err


def test_a_missing_or_wrong_key_is_told_with_where_the_command_takes_it_from(settings, parts, zimg, tmp_path):
    with live_api(settings, tmp_path, ZIMG_HOST="0.0.0.0", ZIMG_ADMIN_KEY="the-operators-own-key") as api:
        missing, _, of_jobs = zimg("jobs", ZIMG_URL=api.url)
        wrong, _, of_keys = zimg("keys", "list", ZIMG_URL=api.url, ZIMG_ADMIN_KEY="wrong")

    assert (missing, wrong) == (3, 3)
    assert "--key KEY or ZIMG_API_KEY" in of_jobs
    assert "--admin-key KEY or ZIMG_ADMIN_KEY" in of_keys


def test_usage_shows_today_and_the_days_before(zimg, worker):
    with worker.at_work():
        zimg("gen", "a", "--size", "256x256", "-n", "2")

    code, out, _ = zimg("usage", "--days", "30", "--json")
    _, lines, _ = zimg("usage", "--days", "3")

    used = json.loads(out)
    assert (code, used["daily_used"], len(used["days"])) == (0, 2, 30)
    assert [day["used"] for day in used["days"]][-2:] == [0, 2]
    assert [line.split("\t")[1] for line in lines.splitlines()[:3]] == ["0", "0", "2"]


@pytest.fixture(scope="module")
def inner_api(valkey_server, storage_environment, tmp_path_factory):
    """An api whose webhooks may reach this machine."""
    settings = Settings(redis_url=valkey_server.url, s3_endpoint_url=storage_environment["S3_ENDPOINT_URL"])
    with live_api(settings, tmp_path_factory.mktemp("inner"), ZIMG_WEBHOOK_ALLOW="127.0.0.0/8") as api:
        yield api


@pytest.fixture
def sending(parts):
    """The scheduler's webhooks, turning, for as long as the test lasts."""
    stop = threading.Event()
    sender = Webhooks(parts.redis, parts.jobs, replace(parts.settings, webhook_allow=("127.0.0.0/8",)))
    sender.turn()

    def turn():
        while not stop.wait(0.05):
            sender.turn()

    thread = threading.Thread(target=turn, daemon=True)
    thread.start()
    yield
    stop.set()
    thread.join(timeout=20)


#: The command as a terminal starts it, though these tests may run under nohup, whose processes ignore SIGHUP.
IN_A_TERMINAL = """
import runpy, signal
signal.signal(signal.SIGHUP, signal.SIG_DFL)
runpy.run_module("client", run_name="__main__", alter_sys=True)
"""


@pytest.fixture
def listening(inner_api, tmp_path):
    """Starts `zimg webhooks listen` and gives its process once the service knows the endpoint."""
    started = []

    def start(*arguments):
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "ZIMG_URL": inner_api.url, "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(
            [sys.executable, "-c", IN_A_TERMINAL, "webhooks", "listen", "--json", *arguments],
            cwd=tmp_path, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(process)
        eventually(lambda: endpoints(inner_api) or process.poll())
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=20)


def endpoints(api):
    return httpx.get(f"{api.url}/v1/webhooks", timeout=20).json()["data"]


def test_listen_prints_verified_events_and_removes_its_endpoint(listening, inner_api, sending, worker):
    process = listening("--test", "--count", "2")
    job = httpx.post(f"{inner_api.url}/v1/jobs", json={"prompt": "a", "size": "256x256"}, timeout=20).json()
    worker.draw_all()

    out, err = process.communicate(timeout=30)

    lines = [json.loads(line) for line in out.splitlines()]
    assert process.returncode == 0, err
    assert sorted(line["event"]["type"] for line in lines) == ["job.succeeded", "webhook.test"]
    assert all(line["verified"] for line in lines)
    assert job["id"] in {line["event"]["data"]["id"] for line in lines}
    assert endpoints(inner_api) == []


def test_listen_hands_on_what_it_verified_and_answers_as_the_receiver_behind_did(listening, inner_api, sending, worker):
    got = []

    class Behind(BaseHTTPRequestHandler):
        def do_POST(self):
            got.append((self.headers["webhook-id"], self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(503)
            self.end_headers()

        def log_message(self, *_):
            """Says nothing."""

    behind = ThreadingHTTPServer(("127.0.0.1", 0), Behind)
    threading.Thread(target=behind.serve_forever, args=(0.05,), daemon=True).start()
    process = listening("--forward-to", f"http://127.0.0.1:{behind.server_port}/hook")
    (endpoint,) = endpoints(inner_api)
    httpx.post(f"{inner_api.url}/v1/jobs", json={"prompt": "a", "size": "256x256"}, timeout=20)
    worker.draw_all()

    line = json.loads(process.stdout.readline())
    where = f"{inner_api.url}/v1/webhooks/{endpoint['id']}/deliveries"
    delivery = eventually(
        lambda: next((one for one in httpx.get(where, timeout=20).json()["data"] if one["attempts"]), None)
    )
    behind.shutdown()

    assert (line["verified"], line["forwarded"]) == (True, 503)
    assert got[0][0] == line["id"]
    assert json.loads(got[0][1]) == line["event"]
    assert (delivery["state"], delivery["attempts"][0]["status"]) == ("pending", 503)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_listen_removes_its_endpoint_when_it_is_stopped(listening, inner_api, parts, number):
    process = listening()
    process.stderr.readline()

    process.send_signal(number)
    process.communicate(timeout=20)

    assert process.returncode == 0
    assert endpoints(inner_api) == []


def test_listen_says_what_to_do_where_the_service_may_not_reach_this_machine(zimg, worker):
    code, _, err = zimg("webhooks", "listen")

    assert code == 3
    assert "ZIMG_WEBHOOK_ALLOW" in err


def test_doctor_finds_nothing_wrong_with_services_that_run(zimg, live, worker, valkey_server, storage_environment):
    code, out, _ = zimg("doctor", "--json", REDIS_URL=valkey_server.url, **storage_environment)

    found = {check["name"]: check for check in json.loads(out)["checks"]}
    assert (found["service"]["state"], found["service: workers"]["state"], found["clock"]["state"]) == ("ok",) * 3
    assert (found["redis"]["state"], found["storage"]["state"]) == ("ok", "ok"), found["storage"]
    assert code == (0 if all(check["state"] != "failed" for check in found.values()) else 1)


def test_show_reads_a_picture_and_refuses_another_file(zimg, parts, tmp_path):
    request = GenerationRequest(prompt="霓虹灯", width=64, height=48, seed=77, preset="turbo", model=parts.profile.id)
    (tmp_path / "a.png").write_bytes(encode_png(Image.new("RGB", (64, 48)), request, parts.profile).png)
    Image.new("RGB", (8, 8)).save(tmp_path / "b.png")

    code, out, _ = zimg("show", "a.png", "--json")
    refused, _, _ = zimg("show", "b.png")

    assert (code, refused) == (0, 2)
    assert {name: json.loads(out)[name] for name in ("prompt", "seed", "size")} == {
        "prompt": "霓虹灯", "seed": 77, "size": "64x48"
    }  # fmt: skip


def test_a_shell_completes_commands_and_states(zimg):
    _, commands, _ = zimg(_ZIMG_COMPLETE="complete_bash", COMP_WORDS="zimg web", COMP_CWORD="1")
    _, states, _ = zimg(_ZIMG_COMPLETE="complete_bash", COMP_WORDS="zimg jobs --status s", COMP_CWORD="3")

    assert commands.split() == ["webhooks"]
    assert states.split() == ["succeeded"]

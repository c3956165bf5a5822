"""The doctor's checks against machines that are made of folders, programs and servers."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from typer.testing import CliRunner

from client.command import app
from client.doctor import command
from client.doctor.card import check_cards, parse_cards
from client.doctor.findings import GIB, Surroundings
from client.doctor.machine import check_machine, memory_limit, missing_files
from client.doctor.services import check_services

ROOT = Path(__file__).parents[3]
CARD_3060 = "NVIDIA GeForce RTX 3060, 580.95.05, 12288, 11000, 8.6\n"


@pytest.fixture
def machine(tmp_path):
    """A machine with 16 GiB free, no container, and a model of two small parts."""
    for folder in ("proc/self", "sys/fs/cgroup", "dev/shm"):
        (tmp_path / "root" / folder).mkdir(parents=True)
    (tmp_path / "root/proc/meminfo").write_text(f"MemTotal: 1 kB\nMemAvailable: {16 * GIB // 1024} kB\n")
    (tmp_path / "root/proc/self/cgroup").write_text("0::/pods/one\n")
    model = tmp_path / "model"
    for part in ("transformer", "vae"):
        (model / part).mkdir(parents=True)
        (model / part / "model.safetensors").write_bytes(b"x" * 1000)
    parts = {"_class_name": "Z", "transformer": ["diffusers", "T"], "vae": ["diffusers", "V"], "safety": [None, None]}
    (model / "model_index.json").write_text(json.dumps(parts))
    return Surroundings(
        environ={"ZIMG_MODEL": str(model), "ZIMG_DATA_DIR": str(tmp_path / "data"), "ZIMG_PORT": "1"},
        root=tmp_path / "root",
    )


def look(check, around):
    return {finding.name: finding for finding in check(around)}


def with_environ(around, **more):
    return replace(around, environ={**around.environ, **more})


@pytest.fixture
def smi(tmp_path, monkeypatch):
    """An nvidia-smi that prints what it is told; NVML is not there."""

    def install(text):
        program = tmp_path / "bin" / "nvidia-smi"
        program.parent.mkdir(exist_ok=True)
        (tmp_path / "said").write_text(text)
        program.write_text(f"#!/bin/sh\nexec cat '{tmp_path}/said'\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
        monkeypatch.setitem(sys.modules, "pynvml", None)

    return install


def test_a_good_machine_has_nothing_to_do(machine):
    found = look(check_machine, machine)

    assert {finding.state for finding in found.values()} <= {"ok", "warning"}  # a disk or a limit of the test machine
    assert (found["model"].state, found["memory"].state, found["shared memory"].state) == ("ok", "ok", "ok")


def test_a_containers_limit_above_it_in_the_tree_counts(machine):
    group = machine.root / "sys/fs/cgroup/pods/one"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("max\n")
    (group.parent / "memory.max").write_text(f"{2 * GIB}\n")

    found = look(check_machine, machine)["memory"]

    assert memory_limit(machine.root) == 2 * GIB
    assert found.state == "failed"
    assert "this container may use 2.0 GiB" in found.detail
    assert "limit" in found.fix


def test_the_limit_of_older_control_groups_counts_and_their_no_limit_does_not(machine):
    (machine.root / "sys/fs/cgroup/memory").mkdir()
    path = machine.root / "sys/fs/cgroup/memory/memory.limit_in_bytes"

    path.write_text("9223372036854771712")
    assert memory_limit(machine.root) == 0
    path.write_text(str(3 * GIB))
    assert memory_limit(machine.root) == 3 * GIB


def test_a_model_that_lacks_a_part_or_a_shard_is_named_by_what_is_missing(machine):
    folder = Path(machine.model)
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    (folder / "vae" / "x.safetensors.index.json").write_text(json.dumps(index))
    (folder / "vae" / "one.safetensors").touch()
    for path in (folder / "transformer").iterdir():
        path.unlink()
    (folder / "transformer").rmdir()

    assert missing_files(folder) == ["transformer/", "vae/two.safetensors"]
    assert "vae/two.safetensors" in look(check_machine, machine)["model"].detail


@pytest.mark.parametrize(
    ("model", "state"), [("/nowhere/at/all", "failed"), ("models/none", "failed"), ("Tongyi-MAI/Z-Image", "skipped")]
)  # fmt: skip
def test_a_model_that_is_not_there_is_a_fault_unless_the_hub_has_it(machine, model, state):
    assert look(check_machine, with_environ(machine, ZIMG_MODEL=model))["model"].state == state


def test_outside_the_checkout_its_own_starter_model_is_looked_at(machine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    found = look(check_machine, replace(machine, environ={}))["model"]

    assert found.state == "ok", found
    assert str(ROOT / "models/starter") in found.detail


@pytest.mark.parametrize(
    "where",
    [
        {"environ": {"ZIMG_URL": "https://zimg.example"}, "url": "https://zimg.example"},
        {"environ": {}, "url": "https://zimg.example"},
        {"environ": {}, "url": "http://[broken"},
        {"environ": {}, "checkout": Path("/nowhere/at/all")},
    ],
)
def test_a_machine_with_the_client_alone_needs_no_model_and_no_memory_for_one(machine, tmp_path, monkeypatch, where):
    monkeypatch.chdir(tmp_path)
    (machine.root / "proc/meminfo").write_text("MemAvailable: 1000000 kB\n")

    found = look(check_machine, replace(machine, **where))

    for name in ("model", "memory", "shared memory"):
        assert (found[name].state, "not checked here" in found[name].detail) == ("skipped", True), found[name]


def test_a_model_that_is_named_is_looked_at_wherever_the_service_is(machine):
    around = replace(machine, url="https://zimg.example", environ={"ZIMG_MODEL": "/nowhere/at/all"})

    assert look(check_machine, around)["model"].state == "failed"


@pytest.mark.parametrize("url", ["http://127.0.0.1:9000", "http://localhost:9000", "http://[::1]:9000"])
def test_another_port_of_this_machine_is_no_other_machine(machine, url):
    found = look(check_machine, replace(machine, url=url, environ={"ZIMG_URL": url}, checkout=ROOT))

    assert found["model"].state == "ok"
    assert "not checked" not in found["memory"].detail


@pytest.mark.parametrize(
    ("environ", "state"),
    [
        ({}, "ok"),
        ({"ZIMG_HOST": "localhost"}, "ok"),
        ({"ZIMG_HOST": "0.0.0.0"}, "warning"),
        ({"ZIMG_HOST": "0.0.0.0", "ZIMG_PUBLIC_BASE_URL": "https://zimg.example"}, "ok"),
        ({"ZIMG_PUBLIC_BASE_URL": "zimg.example"}, "failed"),
    ],
)
def test_a_service_for_other_machines_needs_the_address_by_which_they_know_it(machine, environ, state):
    found = look(check_machine, with_environ(machine, **environ))["public address"]

    assert found.state == state
    assert ("ZIMG_PUBLIC_BASE_URL" in found.fix) == (state != "ok")


def test_too_little_shared_memory_says_how_much_to_ask_for(machine):
    with (Path(machine.model) / "vae" / "huge.safetensors").open("wb") as file:
        file.truncate(900 * GIB)  # a hole: it takes no room

    found = look(check_machine, machine)["shared memory"]

    assert found.state == "warning"
    assert "--shm-size=902g" in found.fix


@pytest.mark.parametrize("port", ["x", "0", "70000"])
def test_a_port_that_can_not_be_is_a_fault(machine, port):
    assert look(check_machine, with_environ(machine, ZIMG_PORT=port))["port"].state == "failed"


def test_a_card_is_read_from_nvidia_smi_where_nvml_is_not_there(machine, smi):
    smi(CARD_3060)

    found = look(check_cards, machine)

    assert {finding.state for finding in found.values()} == {"ok"}
    assert "driver 580.95.05" in found["driver"].detail
    assert "10.7 GiB of 12.0 GiB free" in found["card 0 memory"].detail


@pytest.mark.parametrize(
    ("line", "name", "state", "fix"),
    [
        ("Tesla T4, 580.1, 15360, 15000, 7.5", "card 0 bfloat16", "failed", "RTX 30"),
        ("RTX 3050, 580.1, 4096, 4000, 8.6", "card 0 memory", "failed", "ZIMG_VRAM_BUDGET_GIB below 4.0"),
        ("RTX 3060, 580.1, 12288, 900, 8.6", "card 0 memory", "warning", "nvidia-smi"),
        ("RTX 3060, 470.2, 12288, 12000, 8.6", "driver", "failed", "525"),
    ],
)
def test_a_card_that_can_not_do_it_is_told_with_what_to_do(machine, smi, line, name, state, fix):
    smi(line)

    found = look(check_cards, machine)[name]

    assert found.state == state
    assert fix in found.fix


def test_without_a_card_it_is_a_warning_and_a_fault_only_where_one_is_asked_for(machine, smi):
    smi("No devices were found\n")

    assert look(check_cards, machine)["driver"].state == "warning"
    assert look(check_cards, with_environ(machine, ZIMG_DEVICE="cuda:1"))["driver"].state == "failed"
    assert [finding.state for finding in check_cards(with_environ(machine, ZIMG_DEVICE="cpu"))] == ["skipped"]


def test_lines_of_nvidia_smi_that_say_nothing_are_left_out():
    assert [card.name for card in parse_cards("[N/A], x\n" + CARD_3060 + "\nA, 1, [N/A], 2, 8.0\n")] == [
        "NVIDIA GeForce RTX 3060"
    ]


@pytest.fixture
def web():
    """A server that answers every GET with the next of `answers`: headers and body."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            headers, body = server.answers[self.path]
            self.send_response_only(200)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.answers = {}
    Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_service_that_is_not_ready_says_of_what_and_a_clock_that_is_off_is_told(machine, web):
    checks = {"redis": "ok", "workers": "unavailable: 0 of at least 1 workers alive"}
    kind = {"Content-Type": "application/json"}
    web.answers = {
        "/healthz": (kind | {"Date": "Mon, 01 Jan 2024 00:00:00 GMT"}, b'{"status":"ok","uptime_sec":7}'),
        "/readyz": (kind, json.dumps({"checks": checks}).encode()),
    }

    found = look(check_services, replace(machine, url=f"http://127.0.0.1:{web.server_port}"))

    assert found["service"].state == "ok"
    assert (found["service: redis"].state, found["service: workers"].state) == ("ok", "failed")
    assert "worker.log" in found["service: workers"].fix
    assert found["clock"].state == "failed"


def test_another_program_at_the_address_is_not_taken_for_zimg(machine, web):
    web.answers = dict.fromkeys(("/healthz", "/readyz"), ({}, b"<html>hello"))

    assert (
        look(check_services, replace(machine, url=f"http://127.0.0.1:{web.server_port}"))["service"].state == "failed"
    )


def test_a_redis_and_a_storage_that_are_not_there_are_faults_without_their_passwords(machine):
    around = with_environ(
        machine, REDIS_URL="redis://:secret-word@127.0.0.1:1/0", S3_ENDPOINT_URL="http://127.0.0.1:1",
        AWS_ACCESS_KEY_ID="a", AWS_SECRET_ACCESS_KEY="b",
    )  # fmt: skip

    found = look(check_services, replace(around, url="http://127.0.0.1:1"))

    assert (found["redis"].state, found["storage"].state) == ("failed", "failed")
    assert "secret-word" not in str(found)


def test_a_check_that_breaks_is_a_finding_and_the_others_are_made(machine, monkeypatch):
    def check_broken(_):
        raise RuntimeError("odd machine")

    monkeypatch.setattr(command, "CHECKS", (check_broken, check_machine))

    found = command.run_checks(machine)

    assert (found[0].name, found[0].state) == ("broken", "failed")
    assert len(found) > 5


def test_the_command_needs_no_torch_no_redis_and_no_boto3(machine):
    """On a machine with the client alone; a fault makes the exit code 1, JSON goes to standard output."""
    code = (
        "import sys\n"
        "for name in ('torch', 'redis', 'boto3', 'pynvml', 'flask'): sys.modules[name] = None\n"
        "from client.command import app\n"
        "app(['doctor', '--json', '--url', 'http://127.0.0.1:1'])"
    )
    environ = {**os.environ, **machine.environ, "REDIS_URL": "redis://127.0.0.1:1", "PATH": "/usr/bin:/bin"}

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False
    )

    report = json.loads(done.stdout)
    assert done.returncode == 1, done.stderr
    assert report["ok"] is False
    assert {check["name"]: check["state"] for check in report["checks"]}["redis"] == "failed"
    assert all(check["fix"] for check in report["checks"] if check["state"] in ("failed", "warning"))


def test_a_service_that_is_named_and_not_there_is_a_fault_and_one_that_nobody_named_is_none(machine):
    away = replace(machine, url="http://127.0.0.1:1")

    assert look(check_services, away)["service"].state == "warning"
    assert look(check_services, replace(away, is_named=True))["service"].state == "failed"


def doctored(*words, **environ):
    made = CliRunner().invoke(app, ["doctor", *words], env={"COLUMNS": "300", "NO_COLOR": "1", **environ})
    return made.exit_code, " ".join(made.output.split())


@pytest.mark.parametrize("way", ["option", "environment"])
def test_the_doctor_fails_where_the_named_service_is_away(way):
    url = "http://127.0.0.1:1"
    code, told = doctored("--url", url) if way == "option" else doctored(ZIMG_URL=url)

    assert code == 1
    assert "✗ service: http://127.0.0.1:1 does not answer (ConnectError)" in told


def test_the_doctor_takes_web_addresses_alone():
    code, told = doctored("--url", "localhost:8080")

    assert (code, "is no web address" in told) == (2, True)


def test_the_address_that_was_named_says_whose_machine_it_is_and_not_the_environments(machine):
    """As with all commands, --url comes before ZIMG_URL."""
    around = replace(machine, url="https://zimg.example", environ={"ZIMG_URL": "http://127.0.0.1:8080"})

    assert around.is_elsewhere

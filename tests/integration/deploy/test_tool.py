"""The operator's commands find the service of a data folder, whose Redis has a port and a password of its own."""

import os
import subprocess
import sys
from contextlib import suppress

import pytest
import redis

from core.redis_client import PREFIX, connect
from core.settings import Settings
from deploy.local import embedded
from deploy.local.launcher import PORT_NAMES
from deploy.local.plan import make_programs
from deploy.local.ports import kept_ports
from deploy.local.supervisor_config import write_files
from tests.fixtures.stack import ROOT, wait_until

ENTRY = {"job": "j1", "tenant": "a", "kind": "charge", "cost": 1, "day": "20261128"}


def prepare(folder, **environ):
    """A data folder as the launcher leaves it; ports and keys."""
    ports = kept_ports(folder / "ports.json", PORT_NAMES, offsets=(0, embedded.GRPC_OFFSET))
    keys = embedded.kept_secrets(folder / "secrets.json")
    programs = make_programs(Settings(data_dir=folder), environ, ports, keys)
    write_files(folder, programs, socket=str(folder / "run" / "supervisor.sock"))
    return ports, keys


@pytest.fixture
def data_dir(tmp_path):
    """A data folder whose Redis runs and has one entry in its ledger."""
    ports, keys = prepare(tmp_path)
    password = keys["redis_password"]
    command = embedded.valkey_command(tmp_path, ports["redis"], password=password)
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        with connect(embedded.valkey_url(ports["redis"], password=password)) as client:
            wait_until(lambda: is_up(client), seconds=60)
            client.xadd(f"{PREFIX}ledger", ENTRY, id="1795824000000-0")
        yield tmp_path
    finally:
        server.terminate()
        server.wait(timeout=60)


def is_up(client):
    with suppress(redis.RedisError):
        return client.ping()
    return False


def run(command, **environ):
    clean = {name: value for name, value in os.environ.items() if name != "REDIS_URL" and not name.startswith("ZIMG_")}
    return subprocess.run(
        list(map(str, command)), cwd=ROOT, env={**clean, **environ}, capture_output=True, text=True, check=False,
        timeout=90,
    )  # fmt: skip


def tool(folder, *arguments, **environ):
    return run([sys.executable, "-m", "deploy.local.tool", "--data-dir", folder, *arguments], **environ)


def test_the_bill_of_a_data_folder_comes_out(data_dir):
    done = tool(data_dir, "scheduler.ledger", "export", "--day", "2026-11-28")

    assert done.returncode == 0, done.stderr
    assert '"job": "j1"' in done.stdout


def test_make_ledger_and_make_audit_reach_the_service_of_the_folder(data_dir):
    given = ["make", "-s", f"DATA_DIR={data_dir}", f"VENV={sys.prefix}"]

    bill = run([*given, "ledger", "ARGS=--format csv"])
    audit = run([*given, "audit"], ZIMG_LOG_DIR=str(data_dir / "logs"))

    assert bill.returncode == 0, bill.stderr
    assert bill.stdout.splitlines()[1].startswith("1795824000000-0,")
    assert "audit done" in audit.stdout + audit.stderr


def test_a_folder_without_a_service_is_a_sentence(tmp_path):
    done = tool(tmp_path, "scheduler.auditor")

    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "DATA_DIR=" in done.stderr
    assert list(tmp_path.iterdir()) == [], "to look makes nothing"


def test_a_folder_whose_files_are_damaged_is_a_sentence(tmp_path):
    prepare(tmp_path)
    (tmp_path / "ports.json").write_text("{}")

    done = tool(tmp_path, "scheduler.auditor")

    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "REDIS_URL" in done.stderr


def test_a_service_that_is_stopped_is_a_sentence(tmp_path):
    prepare(tmp_path)

    done = tool(tmp_path, "scheduler.auditor")

    assert done.returncode == 2
    assert "Redis did not answer" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_service_with_an_outside_redis_needs_to_be_told_its_address_again(tmp_path):
    prepare(tmp_path, REDIS_URL="redis://elsewhere/0")

    done = tool(tmp_path, "scheduler.auditor")

    assert done.returncode == 2
    assert "REDIS_URL" in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_outside_redis_that_is_named_is_the_one_that_is_asked(data_dir):
    done = tool(data_dir, "scheduler.ledger", "export", REDIS_URL="redis://127.0.0.1:1/0")

    assert done.returncode == 2
    assert "Redis did not answer" in done.stderr

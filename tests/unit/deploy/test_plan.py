"""Which programs run locally, with what in their environment, and in which order they stop."""

import configparser
import json
import stat
from dataclasses import replace

import pytest

from core.settings import Settings
from deploy.local import embedded
from deploy.local.plan import (
    REDIS_STOP_SECONDS,
    SERVICE_STOP_SECONDS,
    STORAGE_STOP_SECONDS,
    make_programs,
)
from deploy.local.supervisor_config import CONFIG_FILE, PROGRAMS_FILE, render, write_files

PORTS = {"redis": 20001, "master": 20002, "volume": 20003, "filer": 20004, "s3": 20005, "admin": 20006}
KEYS = {"redis_password": "redis-word", "s3_access_key": "access", "s3_secret_key": "secret-word"}


@pytest.fixture
def settings(tmp_path):
    return Settings(data_dir=tmp_path, port=18080)


def names(programs):
    return {program.name for program in programs}


def test_without_outside_parts_the_service_brings_its_own_redis_and_storage(settings):
    programs = make_programs(settings, {}, PORTS, KEYS)

    assert names(programs) == {"api", "scheduler", "worker", "keeper", "storage", "redis"}
    api = next(program for program in programs if program.name == "api")
    assert api.environment["REDIS_URL"] == "redis://:redis-word@127.0.0.1:20001/0"
    assert api.environment["S3_ENDPOINT_URL"] == "http://127.0.0.1:20005"
    assert api.environment["AWS_SECRET_ACCESS_KEY"] == "secret-word"


@pytest.mark.parametrize(("gib", "most"), [(2.0, 2 * 1024**3), (0.5, 512 * 1024**2)])
def test_the_embedded_redis_uses_as_much_memory_as_it_is_given(settings, gib, most):
    make_programs(replace(settings, redis_memory_gib=gib), {}, PORTS, KEYS)

    assert f"maxmemory {most}\n" in (settings.data_dir / "valkey" / "valkey.conf").read_text()


def test_an_outside_redis_and_storage_replace_the_embedded_ones(settings):
    outside = {"REDIS_URL": "redis://there:6379/0", "S3_ENDPOINT_URL": "https://s3.there"}

    programs = make_programs(settings, outside, PORTS, KEYS)

    assert names(programs) == {"api", "scheduler", "worker", "keeper"}
    for program in programs:
        assert not {"REDIS_URL", "S3_ENDPOINT_URL", "AWS_SECRET_ACCESS_KEY"} & set(program.environment)


def test_services_stop_before_storage_and_storage_before_redis(settings):
    order = {program.name: program.stop_first for program in make_programs(settings, {}, PORTS, KEYS)}

    assert order["keeper"] > order["api"] == order["scheduler"] == order["worker"] > order["storage"] > order["redis"]


def test_all_stop_times_together_leave_room_within_twenty_seconds():
    assert SERVICE_STOP_SECONDS + STORAGE_STOP_SECONDS + REDIS_STOP_SECONDS <= 16


def test_a_worker_drains_in_less_time_than_it_is_given_whatever_the_setting_says(settings):
    worker = next(p for p in make_programs(settings, {"ZIMG_DRAIN_SECONDS": "75"}, PORTS, KEYS) if p.name == "worker")

    assert float(worker.environment["ZIMG_DRAIN_SECONDS"]) < worker.stop_seconds


def test_the_configuration_reads_back_with_each_program_in_its_group(settings):
    text = render(make_programs(settings, {}, PORTS, KEYS), socket="/tmp/100%/s.sock")

    config = configparser.RawConfigParser()
    config.read_string(text)

    assert config["group:services-group"]["programs"] == "api,scheduler,worker"
    assert config["unix_http_server"]["file"] == "/tmp/100%%/s.sock"
    assert config["program:redis"]["priority"] < config["program:storage"]["priority"]
    assert config["eventlistener:keeper"]["stdout_logfile"] == "NONE"


def test_secrets_stand_in_files_that_only_their_owner_reads(settings):
    write_files(settings.data_dir, make_programs(settings, {}, PORTS, KEYS), socket="run/s.sock")
    embedded.kept_secrets(settings.data_dir / "secrets.json")

    holders = [
        path
        for path in settings.data_dir.rglob("*")
        if path.is_file() and "redis-word" in path.read_text(errors="replace")
    ]
    assert {path.name for path in holders} == {"programs.json", "valkey.conf"}
    for path in [*holders, settings.data_dir / "secrets.json", settings.data_dir / CONFIG_FILE]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_programs_that_store_get_time_for_a_farewell_when_orphaned_and_others_do_not(settings):
    write_files(settings.data_dir, make_programs(settings, {}, PORTS, KEYS), socket="run/s.sock")

    entries = json.loads((settings.data_dir / PROGRAMS_FILE).read_text())

    orphaned = {name: entry["signal_when_orphaned"] for name, entry in entries.items()}
    assert orphaned["redis"] == orphaned["storage"] == orphaned["supervisord"] == "SIGTERM"
    assert orphaned["api"] == orphaned["scheduler"] == orphaned["worker"] == "SIGKILL"

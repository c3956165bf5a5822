"""The compose file: it parses, and agrees with the Dockerfile, nginx, the settings and the programs that it starts."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from core.settings import Settings
from deploy.local.embedded import VALKEY_PACKING, seaweedfs_binary

ROOT = Path(__file__).parent.parent.parent
FILE = ROOT / "deploy" / "docker" / "compose.yaml"


def filled_in(value):
    """Variables as a person would set them: `${NAME:-default}` has its default, any other a word."""
    if isinstance(value, dict):
        return {name: filled_in(part) for name, part in value.items()}
    if isinstance(value, list):
        return [filled_in(part) for part in value]
    if not isinstance(value, str):
        return value
    while (inner := re.sub(r"\$\{\w+(?::-([^{}]*)|:\?[^{}]*)?\}", lambda found: found[1] or "word", value)) != value:
        value = inner
    return value


@pytest.fixture(scope="module")
def services():
    return filled_in(yaml.safe_load(FILE.read_text()))["services"]


def test_the_settings_are_ones_that_the_code_accepts(services):
    known = {f"ZIMG_{name.upper()}" for name in Settings.__dataclass_fields__}
    known |= {"REDIS_URL", "S3_ENDPOINT_URL", "S3_BUCKET", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}

    for name in ("api", "scheduler", "worker"):
        environ = services[name]["environment"]
        assert set(environ) <= known
        assert not Settings.from_env(environ).is_loopback


def test_what_is_built_is_a_target_of_the_dockerfile_that_is_there(services):
    built = [service["build"] for service in services.values() if "build" in service]

    assert {build["target"] for build in built} == {"api", "worker"}
    for build in built:
        dockerfile = (FILE.parent / build["context"] / build["dockerfile"]).read_text()
        assert f" AS {build['target']}\n" in dockerfile


def test_nginx_finds_the_api_under_the_name_in_its_file(services):
    (mount,) = services["nginx"]["volumes"]
    config = (FILE.parent / mount.split(":")[0]).read_text()

    (upstream,) = re.findall(r"server ([\w-]+):8080;", config)
    assert upstream in services["api"]["networks"]["default"]["aliases"]


def test_a_password_of_letters_and_digits_is_asked_for_since_it_becomes_part_of_an_address():
    text = FILE.read_text()

    assert "REDIS_URL: redis://:${ZIMG_SECRET" in text
    for document in (FILE, ROOT / "docs/operations.md"):
        told = re.sub(r"[\s#]+", " ", document.read_text())
        assert re.search(r"ZIMG_SECRET\W+(of|holds) letters and digits \(`?openssl rand -hex 24", told), document.name


def test_nginx_is_started_anew_with_the_api_whose_address_it_looked_up_once(services):
    assert services["nginx"]["depends_on"]["api"]["restart"] is True


def test_no_log_fills_the_disk(services):
    for name, service in services.items():
        assert service["logging"]["driver"] == "json-file", name
        assert set(service["logging"]["options"]) == {"max-size", "max-file"}, name


def test_nginx_has_no_rights_beyond_its_own_files(services):
    nginx = services["nginx"]

    assert nginx["cap_drop"] == ["ALL"]
    assert nginx["security_opt"] == ["no-new-privileges:true"]
    assert nginx["read_only"] is True
    assert int(nginx["ports"][0].rpartition(":")[2]) >= 1024, "a lower port needs a capability"
    config = (FILE.parent / nginx["volumes"][0].split(":")[0]).read_text()
    written = re.findall(r"^\s*(?:pid|\w+_temp_path) (\S+);", config, flags=re.M)
    assert len(written) == 6
    assert all(path.startswith(f"{folder}/") for path in written for folder in nginx["tmpfs"])


def test_nothing_but_nginx_is_reached_from_outside(services):
    assert [name for name, service in services.items() if "ports" in service] == ["nginx"]


def test_links_and_webhooks_name_the_port_that_nginx_publishes_until_an_address_is_given(services):
    text = FILE.read_text()
    (published,) = services["nginx"]["ports"]

    for name in ("api", "scheduler"):
        address = services[name]["environment"]["ZIMG_PUBLIC_BASE_URL"]
        assert address == f"http://localhost:{published.split(':')[0]}"
    assert "http://localhost:${ZIMG_PORT:-8080}" in text  # another port, another address
    assert "ZIMG_PUBLIC_BASE_URL" in text.partition("\nname:")[0]  # the head says that it is to be set


def test_every_part_that_others_wait_for_exists_and_says_whether_it_is_well(services):
    dockerfile = (ROOT / "deploy/docker/Dockerfile").read_text()
    for service in services.values():
        for awaited, how in service.get("depends_on", {}).items():
            assert how["condition"] == "service_healthy"
            assert "healthcheck" in services[awaited] or ("build" in services[awaited] and "HEALTHCHECK" in dockerfile)


def test_redis_loses_nothing_at_a_power_cut(services):
    command = services["redis"]["command"]

    assert command[command.index("--appendfsync") + 1] == "always"
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"


def test_redis_refuses_new_work_before_its_machine_is_out_of_memory(services):
    command = services["redis"]["command"]

    assert command[command.index("--maxmemory") + 1] == "2gb"
    assert "ZIMG_REDIS_MEMORY_GIB" in FILE.read_text().partition("\nname:")[0]


def test_redis_packs_its_jobs_as_the_embedded_one_does(services):
    command = services["redis"]["command"]

    assert {name: command[command.index(f"--{name}") + 1] for name in VALKEY_PACKING} == VALKEY_PACKING


def test_the_storages_flags_are_ones_that_seaweedfs_has(services):
    told = subprocess.run([seaweedfs_binary(), "mini", "-h"], capture_output=True, text=True, check=False, timeout=60)
    known = set(re.findall(r"^\s+-([\w.]+)", told.stdout + told.stderr, flags=re.M))

    flags = {flag.removeprefix("-").split("=")[0] for flag in services["storage"]["command"][1:]}
    assert flags <= known


def test_every_volume_is_declared(services):
    declared = set(yaml.safe_load(FILE.read_text())["volumes"])
    used = {mount.split(":")[0] for service in services.values() for mount in service.get("volumes", ())}

    assert {name for name in used if name.isidentifier() and name != "word"} == declared

"""What is installed is pinned, and only the worker needs torch."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FILES = sorted((ROOT / "requirements").glob("*.txt"))
PIN = re.compile(r"^[A-Za-z0-9._-]+(\[[a-z,]+\])?==[^=\s]+$")


def lines_of(path: Path) -> list[str]:
    lines = [line.split("#")[0].strip() for line in path.read_text().splitlines()]
    return [line for line in lines if line]


def packages_of(name: str) -> set[str]:
    """Names in a file and in those it includes."""
    found: set[str] = set()
    for line in lines_of(ROOT / "requirements" / name):
        if line.startswith("-r "):
            found |= packages_of(line.removeprefix("-r "))
        elif not line.startswith("-c "):
            found.add(re.split(r"[\[=]", line)[0].lower().replace("_", "-"))
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_requirement_is_pinned(path):
    wrong = [line for line in lines_of(path) if not PIN.match(line) and not line.startswith(("-r ", "-c "))]

    assert not wrong


@pytest.mark.parametrize("name", ["core.txt", "api.txt", "scheduler.txt"])
def test_api_and_scheduler_install_nothing_that_needs_torch(name):
    assert not packages_of(name) & {"torch", "diffusers", "transformers", "accelerate", "safetensors"}


def test_the_constraints_hold_every_package_that_is_named_but_torch():
    held = {
        re.split(r"==", line)[0].lower().replace("_", "-") for line in lines_of(ROOT / "requirements/constraints.txt")
    }

    assert packages_of("dev.txt") <= held
    assert "torch" not in held


def test_no_package_is_pinned_to_two_versions():
    pins: dict[str, set[str]] = {}
    for path in (path for path in FILES if path.name != "clients.txt"):  # an environment of its own
        for line in lines_of(path):
            if PIN.match(line):
                name, version = re.sub(r"\[.*\]", "", line).split("==")
                pins.setdefault(name.lower().replace("_", "-"), set()).add(version)

    assert {name: versions for name, versions in pins.items() if len(versions) > 1} == {}


def test_the_root_file_names_all():
    assert {"-r requirements/torch.txt", "-r requirements/dev.txt"} <= set(lines_of(ROOT / "requirements.txt"))

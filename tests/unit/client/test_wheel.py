"""The client as a wheel: it installs alone, gives the command, and its types are seen by who imports it."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import client
from core import __version__
from tests.fixtures.tools import require_tool

ROOT = Path(__file__).parents[3]

GOOD = """
from {package} import Job, Zimg

with Zimg("http://127.0.0.1:8080", key="k") as zimg:
    made: list[Job] = zimg.submit("a red mug", size="512x512", model="z-image-turbo", priority="high")
    picture: bytes = zimg.download(zimg.wait(made[0].id))
"""
BAD = """
from {package} import Zimg

Zimg().submit(7, priority="urgent")
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A Python with the wheel in its site-packages, and what the client needs from ours."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "client", folder / "client", ignore=shutil.ignore_patterns("__pycache__"))
    build = "import os, sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
    run(sys.executable, "-c", build, str(folder), cwd=folder / "client")
    (wheel,) = folder.glob("*.whl")
    run(sys.executable, "-m", "venv", "--without-pip", str(folder / "venv"))
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
        names = archive.namelist()
    (site / "ours.pth").write_text(sysconfig.get_paths()["purelib"])
    return folder / "venv" / "bin" / "python", wheel.name, names


@pytest.fixture
def left_over(installed):
    """The folders that building the wheel left beside the sources, as a clone names them."""
    made = Path(installed[0]).parents[2] / "client"
    ours = {path.name for path in (ROOT / "client").iterdir() if path.name != "build" and path.suffix != ".egg-info"}
    return sorted(f"client/{path.name}/" for path in made.iterdir() if path.name not in ours)


def run(*command, cwd=None, check=True):
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": ""}
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """What a strict mypy says of a program; what it read of libraries is kept between the tests."""
    folder = tmp_path_factory.mktemp("programs")
    (folder / "client").symlink_to(ROOT / "client")

    def check(text, *options):
        (folder / "program.py").write_text(text)
        return run(sys.executable, "-m", "mypy", "--strict", *options, "program.py", cwd=folder, check=False).stdout

    return check


def test_the_wheel_has_the_services_version_and_only_the_client(installed):
    python, name, names = installed

    told = run(str(python), "-m", "zimg_client", "--help").stdout

    assert name.startswith(f"zimg_client-{__version__}-")
    assert client.__version__ == __version__
    assert {part.split("/")[0] for part in names} == {"zimg_client", f"zimg_client-{__version__}.dist-info"}
    assert "zimg_client/py.typed" in names
    assert "gen" in told


def test_what_installing_leaves_in_a_clone_is_no_change_of_it(left_over, tmp_path):
    git = require_tool("git")
    shutil.copy(ROOT / ".gitignore", tmp_path)
    run(git, "init", "-q", str(tmp_path))

    ignored = run(git, "check-ignore", *left_over, cwd=tmp_path, check=False).stdout.split()

    assert "client/build/" in left_over
    assert ignored == left_over


def test_types_are_seen_from_an_installed_wheel(installed, checked):
    python = str(installed[0])

    good = checked(GOOD.format(package="zimg_client"), "--python-executable", python)
    bad = checked(BAD.format(package="zimg_client"), "--python-executable", python)

    assert "Success" in good, good
    assert '"submit" of "Zimg" has incompatible type "int"; expected "str"' in bad
    assert "Literal" in bad


def test_types_are_seen_from_the_folder(checked):
    assert "Success" in checked(GOOD.format(package="client"))

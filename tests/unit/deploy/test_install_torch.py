"""Which build of torch a machine gets."""

import sys

from deploy.local import install_torch
from deploy.local.install_torch import choose_command, is_cpu_build, read_requirement


def test_a_build_with_the_local_version_cpu_is_a_cpu_build():
    assert is_cpu_build("2.13.0+cpu", [])


def test_a_build_with_another_local_version_is_not():
    assert not is_cpu_build("2.13.0+cu130", [])


def test_a_build_that_needs_cuda_packages_on_this_platform_is_not():
    assert not is_cpu_build("2.13.0", ["numpy", f'nvidia-cublas==13.1; sys_platform == "{sys.platform}"'])


def test_a_build_that_needs_cuda_packages_on_other_platforms_only_is_a_cpu_build():
    assert is_cpu_build("2.13.0", ["numpy", 'nvidia-cublas==13.1; sys_platform == "nowhere"'])


def test_a_machine_with_a_driver_takes_the_default_build():
    assert choose_command("torch==2.13.0", has_driver=True)[1:4] == ["-m", "pip", "install"]


def test_a_machine_without_a_driver_never_takes_a_cuda_build(monkeypatch):
    """The answer that pip gives on an ordinary Linux machine; only asking pip is replaced, deciding is real."""
    monkeypatch.setattr(install_torch, "pip_would_take", lambda _: ("2.13.0", ["nvidia-cublas==13.1"]))
    ran = []
    monkeypatch.setattr(install_torch.subprocess, "run", lambda command, **_: ran.append(command))

    command = choose_command("torch==2.13.0", has_driver=False)

    assert command[1:4] == ["-m", "uv", "pip"]
    assert "--torch-backend=cpu" in command
    assert ran[0][-1].startswith("uv==")


def test_the_pinned_requirement_is_read_past_the_comments(tmp_path):
    (tmp_path / "torch.txt").write_text("# why\n\ntorch==2.13.0\n")

    assert read_requirement(tmp_path / "torch.txt") == "torch==2.13.0"

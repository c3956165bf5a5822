"""Install the torch that fits this machine, with the standard library and pip alone.

With an NVIDIA driver: the build that pip takes. Without one: a CPU build, never the gigabytes of CUDA libraries that
the default build brings along. pip is asked first, without downloading, which build it would take; where that is the
CUDA build, uv installs the CPU one.

    python deploy/local/install_torch.py requirements/torch.txt
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

PIP = [sys.executable, "-m", "pip"]
UV = "uv==0.13.9"
CUDA_PACKAGES = ("nvidia-", "cuda-")


def main() -> int:
    """Exit status 0 once torch is installed; says in one line which build was chosen and why."""
    requirement = read_requirement(Path(sys.argv[1]))
    if is_installed(requirement):
        return 0
    command = choose_command(requirement, has_driver=has_nvidia_driver())
    return subprocess.run(command, check=False).returncode


def read_requirement(path: Path) -> str:
    """The one requirement in a file of comments."""
    lines = [line.strip() for line in path.read_text().splitlines()]
    [requirement] = [line for line in lines if line and not line.startswith("#")]
    return requirement


def is_installed(requirement: str) -> bool:
    """Whether that version is there, whatever its build."""
    wanted = requirement.partition("==")[2]
    shown = subprocess.run([*PIP, "show", "-qq", "torch"], check=False, stderr=subprocess.DEVNULL)
    if shown.returncode != 0:
        return False
    listed = subprocess.run([*PIP, "list", "--format=json"], check=True, capture_output=True, text=True)
    versions = {package["name"]: package["version"] for package in json.loads(listed.stdout)}
    return str(versions.get("torch", "")).partition("+")[0] == wanted


def choose_command(requirement: str, *, has_driver: bool) -> list[str]:
    """The command that installs the right build; asks pip, downloads nothing."""
    by_pip = [*PIP, "install", "-qq", "--progress-bar=off", requirement]
    if has_driver:
        print(f"zimg: an NVIDIA driver is here: installing {requirement} with CUDA", flush=True)
        return by_pip
    if is_cpu_build(*pip_would_take(requirement)):
        print(f"zimg: no NVIDIA driver: installing {requirement} for the CPU (about 200 MB)", flush=True)
        return by_pip
    print(f"zimg: no NVIDIA driver: installing {requirement} for the CPU through uv (about 200 MB)", flush=True)
    subprocess.run([*PIP, "install", "-qq", "--progress-bar=off", UV], check=True)
    uv = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", sys.executable]
    return [*uv, "--torch-backend=cpu", requirement]


def has_nvidia_driver() -> bool:
    """Whether a card could be used: the driver's library loads, or its kernel module is there."""
    if Path("/proc/driver/nvidia/version").exists():
        return True
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def pip_would_take(requirement: str) -> tuple[str, list[str]]:
    """Version and requirements of the file that pip would install; raises CalledProcessError with pip's own words."""
    command = [*PIP, "install", "-qq", "--dry-run", "--ignore-installed", "--no-deps", "--report=-", requirement]
    asked = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    metadata = json.loads(asked.stdout)["install"][0]["metadata"]
    return metadata["version"], metadata.get("requires_dist", [])


def is_cpu_build(version: str, requires: Iterable[str]) -> bool:
    """A local version such as 2.13.0+cpu says so; else a build that needs no CUDA package on this platform is one."""
    if "+" in version:
        return version.partition("+")[2].startswith("cpu")
    return not any(needs_here(line) for line in requires if line.lower().startswith(CUDA_PACKAGES))


def needs_here(line: str) -> bool:
    """Whether the marker of a requirement line holds on this machine."""
    from pip._vendor.packaging.requirements import Requirement  # pip is what is always there

    marker = Requirement(line).marker
    return marker is None or marker.evaluate({"extra": ""})


if __name__ == "__main__":
    sys.exit(main())

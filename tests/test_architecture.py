"""The import arrows of docs/architecture.md, held against the code."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

#: package -> packages of ours that it may import, itself aside.
ARROWS: dict[str, set[str]] = {
    "core": set(),
    "scheduler": {"core"},
    "api": {"scheduler", "core"},
    "worker": {"core"},
    "worker/offload": set(),
    "client": set(),
    "models": set(),
    "deploy": {"core"},
}
OURS = {"core", "scheduler", "api", "worker", "client", "deploy", "models", "tests", "benchmarks"}
HEAVY = ("torch", "diffusers", "transformers")


def files_of(package: str) -> list[Path]:
    """Python files of a package; worker's exclude those of worker/offload, which is a package of its own."""
    inner = [ROOT / other for other in ARROWS if other != package and other.startswith(package + "/")]
    found = [path for path in (ROOT / package).rglob("*.py") if not any(path.is_relative_to(skip) for skip in inner)]
    assert found, f"{package} has no files"
    return found


def imports_of(path: Path) -> set[str]:
    """Top-level modules that a file imports anywhere, `worker.offload` as one name."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module)
    return {"worker/offload" if name.startswith("worker.offload") else name.split(".")[0] for name in names}


@pytest.mark.parametrize("package", ARROWS)
def test_a_package_imports_only_what_its_arrows_allow(package):
    allowed = ARROWS[package] | {package}
    if package == "worker":
        allowed = allowed | {"worker/offload"}

    wrong = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files_of(package)
        for name in imports_of(path)
        if name in OURS | {"worker/offload"} and name not in allowed
    }

    assert not wrong


@pytest.mark.parametrize("module", ["core.job_store", "scheduler.__main__", "api.app", "client.command"])
def test_processes_without_a_gpu_never_load_torch(module):
    code = f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_the_engine_loads_without_any_other_part_of_zimg():
    code = "import sys, worker.offload; print(sorted({m.split('.')[0] for m in sys.modules} & set(" + repr(OURS) + ")))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['worker']"


def test_only_settings_reads_the_environment():
    """One place reads os.environ; the engine, the warm parent and the local service hand variables on to others."""
    may = {"core/settings.py", "worker/warm_parent.py"}
    readers = {
        str(path.relative_to(ROOT))
        for package in ("core", "scheduler", "api", "worker")
        for path in files_of(package)
        if any(word in path.read_text() for word in ("os.environ", "os.getenv"))
    }

    assert readers <= may

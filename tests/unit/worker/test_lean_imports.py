"""The imports of a start leave out work that they would throw away, and find the same all the same."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys

import pytest

from worker.lean_imports import Late, lean_imports

SAY = """
import contextlib, hashlib, importlib.metadata, sys
from worker.lean_imports import lean_imports
reads = []
sys.addaudithook(lambda event, args: reads.append(args[0]) if event == "open" else None)
with lean_imports() if sys.argv[1] == "lean" else contextlib.nullcontext():
    import diffusers, transformers
    import transformers.models
    diffusers.ZImagePipeline, transformers.Qwen3Model
from diffusers.utils import import_utils
names = sorted(sys.modules["transformers"]._class_to_module.items())
inner = sorted(sys.modules["transformers.models"]._class_to_module.items())
print(hashlib.sha256(repr((names, inner)).encode()).hexdigest(), len(inner))
print(sum("modeling_qwen3.py" in str(path) for path in reads))
print(sorted(import_utils._package_map.items()) == sorted(importlib.metadata.packages_distributions().items()))
"""


def said(how: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", SAY, how], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_what_is_imported_is_the_same_and_transformers_reads_its_model_files_once() -> None:
    usual, lean = said("usual"), said("lean")
    assert lean[0] == usual[0], "the same names, from the same modules"
    assert int(lean[1]) == int(usual[1]) - 1, "one reading less"
    assert lean[2] == usual[2] == "True", "the same distributions, looked up later"


def test_distributions_are_listed_when_somebody_looks_for_one() -> None:
    asked: list[int] = []

    def list_all() -> dict[str, list[str]]:
        asked.append(1)
        return {"cv2": ["opencv-python"]}

    late = Late(list_all)
    assert bool(late)
    assert asked == []
    assert late["cv2"] == ["opencv-python"]
    assert late.get("optimum") is None
    assert len(late) == len(list(late)) == len(asked) == 1


def test_afterwards_all_is_as_it_was() -> None:
    list_all, finders = importlib.metadata.packages_distributions, list(sys.meta_path)

    def fail() -> None:
        with lean_imports():
            assert importlib.metadata.packages_distributions is not list_all
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert importlib.metadata.packages_distributions is list_all
    assert sys.meta_path == finders

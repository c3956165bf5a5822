"""What inductor generated is loaded without inductor, and means the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.unit.offload.form_kit import Small, Start, rows
from worker.offload import kept_forms

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.unit.offload.generated_once"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def test_generated_code_is_loaded_and_runs_without_the_compiler(told: dict[str, Any]) -> None:
    assert told["product"] == [2.0, 3.0, 6.0, 11.0]
    assert told["asleep"]
    assert not told["left behind"], "who imports the compiler afterwards gets the compiler"


def test_stand_ins_are_the_very_functions_that_the_compiler_would_have_given(told: dict[str, Any]) -> None:
    assert not told["others"]
    assert told["align"]
    assert told["rare"], "one that torch does not have comes from the compiler"


def test_who_asks_for_more_gets_the_compiler(told: dict[str, Any]) -> None:
    assert told["awake"]
    assert told["more"]
    assert told["own afterwards"], "nothing stands in for what is there"


def test_what_can_not_be_loaded_so_is_loaded_as_torch_does(told: dict[str, Any]) -> None:
    assert told["tries"] == [True, False], "with stand-ins, then without"


def test_a_form_that_looks_for_more_of_the_compiler_runs_once_it_is_there(
    tmp_path: Path, block: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, woken = Start(tmp_path), list[str]()
    monkeypatch.setattr(kept_forms, "wake_compiler", lambda: woken.append("compiler"))
    output = start.run(block, rows(3))
    forms = [form for slots in start.kept._forms.values() for form in slots.values()]

    def run(*args: Any) -> Any:
        if not woken:
            raise AttributeError("module 'torch._inductor' has no attribute 'debug'")
        return usual(*args)

    usual, forms[0]._run, forms[0].is_proven = forms[0]._run, run, False
    assert start.run(block, rows(3)).equal(output)
    assert woken == ["compiler"]
    assert start.saw(compiled=1, **{"left to torch": 0})


def test_an_error_of_a_form_that_has_run_is_its_own(tmp_path: Path, block: Small) -> None:
    start, calls = Start(tmp_path), list[int]()
    start.run(block, rows(3))
    forms = [form for slots in start.kept._forms.values() for form in slots.values()]

    def run(*args: Any) -> Any:
        calls.append(len(args))
        raise AttributeError("of the module itself")

    forms[0]._run = run
    with pytest.raises(AttributeError, match="of the module itself"):
        start.run(block, rows(3))
    assert len(calls) == 1, "what it did is not done again"

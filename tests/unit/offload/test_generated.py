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


def run(what: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.unit.offload.generated_once", what]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


@pytest.fixture(scope="module")
def loads() -> dict[str, Any]:
    return run("loads")


def test_generated_code_is_loaded_and_runs_without_the_compiler(loads: dict[str, Any]) -> None:
    assert loads["product"] == [2.0, 3.0, 6.0, 11.0]
    assert not loads["awake"]
    assert not loads["left behind"], "who imports the compiler afterwards gets the compiler"


def test_stand_ins_are_the_very_functions_that_the_compiler_would_have_given(loads: dict[str, Any]) -> None:
    assert not loads["others"]
    assert loads["align"]
    assert loads["rare"], "one that torch does not have comes from the compiler"


def test_what_can_not_be_loaded_so_is_loaded_as_torch_does(loads: dict[str, Any]) -> None:
    assert loads["tries"] == [True, False], "with stand-ins, then without"
    assert loads["own afterwards"], "nothing stands in for what is there"


def test_who_asks_for_more_or_is_somebody_else_gets_the_compiler() -> None:
    told = run("more")
    assert told["awake"] == [False, True]
    assert told["other"], "inductor's own modules keep what they ask for"
    assert told["more"]
    assert told["debug"] == [True, True]
    assert told["debug is"]


def test_a_compiler_that_is_imported_while_forms_are_loaded_is_whole() -> None:
    told = run("meanwhile")
    assert told["graph"]
    assert not told["stand-ins"]
    assert told["forwards"], "who holds a stand-in itself is answered by the compiler"


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

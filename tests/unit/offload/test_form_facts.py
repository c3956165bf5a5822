"""What a compiled form depends on: it is in its key, or compared before the form is called."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.unit.offload.form_kit import Small, Start, rows
from worker.offload.form_key import _narrowed, describe_call, outline

#: As a module knows the environment that has it from elsewhere.
other_name, other_ask = os.environ, os.environ.get


@pytest.mark.parametrize("change", ["constant", "argument", "dtype", "stride", "weights", "device", "setting", "grad"])
def test_what_a_form_depends_on_changed_so_it_is_not_taken(
    tmp_path: Path, block: Small, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Start(tmp_path).run(block, rows(3))
    start, x, kwargs = Start(tmp_path, device="other" if change == "device" else "cpu"), rows(3), {}
    if change == "constant":
        block.scale = 3.0
    elif change == "argument":
        kwargs = {"twice": True}
    elif change == "dtype":
        block, x = block.float(), x.float()
    elif change == "stride":
        x = rows(6)[:, ::2]
    elif change == "weights":
        block.inner = nn.Linear(8, 4, dtype=torch.bfloat16)
    elif change == "setting":
        monkeypatch.setattr(torch._inductor.config, "deterministic", not torch._inductor.config.deterministic)
    elif change == "grad":
        x.requires_grad_()
    assert torch.equal(start.run(block, x, **kwargs), block(x, **kwargs))
    assert start.kept.counts["compiled"] == 1


#: A module whose code asks for one variable by name, and perhaps for another one in its own way.
ASKING = """
import os
{top}
from tests.unit.offload.form_kit import Small

NAME = "ZIMG_TEST_OTHER"

class Asking(Small):
    def forward(self, x, twice=False):
        out = super().forward(x, twice)
        out = out + 1 if os.environ.get("ZIMG_TEST_ASKED", "0") == "1" else out
        return out * 2 if {other} else out
"""


@pytest.mark.parametrize(
    ("changed", "loads", "top", "other"),
    [
        ("ZIMG_TEST_OTHER", True, "", "False"),
        ("ZIMG_TEST_ASKED", False, "", "False"),
        ("ZIMG_TEST_OTHER", False, "", "os.environ.get(NAME)"),
        ("ZIMG_TEST_OTHER", False, "", "NAME in os.environ"),
        ("ZIMG_TEST_OTHER", False, "from os import environ as e", "e.get(NAME)"),
        ("ZIMG_TEST_OTHER", False, "ask = os.environ.get", "ask(NAME)"),
        ("ZIMG_TEST_OTHER", False, "from tests.unit.offload.test_form_facts import other_name as e", "e.get(NAME)"),
        ("ZIMG_TEST_OTHER", False, "from tests.unit.offload.test_form_facts import other_ask as ask", "ask(NAME)"),
        ("ZIMG_TEST_OTHER", False, "", "self.known.get(NAME)"),
        ("ZIMG_TEST_OTHER", False, "", "self.known_to_all.get(NAME)"),
    ],
)
def test_of_the_environment_only_what_the_code_asks_for_by_name_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str, loads: bool, top: str, other: str
) -> None:
    """Kubernetes tells each pod of the services there are; every text layer was compiled anew for one more of them."""
    monkeypatch.syspath_prepend(tmp_path)
    name = f"asking_{abs(hash((top, other)))}"
    (tmp_path / f"{name}.py").write_text(ASKING.format(top=top, other=other))
    kind = importlib.import_module(name).Asking
    block = kind()
    if "self.known.get" in other:
        block.known = os.environ
    elif "self.known_to_all.get" in other:
        kind.known_to_all = os.environ
    Start(tmp_path / "forms").run(block, rows(3))
    monkeypatch.setenv(changed, "1")
    again = Start(tmp_path / "forms")
    assert torch.equal(again.run(block, rows(3)), block(rows(3)))
    assert again.saw(compiled=0 if loads else 1)


def test_code_that_asks_for_nothing_leaves_the_fact_about_the_whole_environment() -> None:
    assert _narrowed("G['os'].environ._data", []) == ["G['os'].environ._data"]
    assert _narrowed("G['os'].environ._data", ["A"]) == ["G['os'].environ._data.get(b'A')"]
    assert _narrowed("G['scale']", ["A"]) == ["G['scale']"]


def test_code_that_changed_is_compiled_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: Callable[[], str]
) -> None:
    source = "from torch import nn\n\nclass Plus(nn.Module):\n    def forward(self, x):\n        return x + {}\n"
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "plus_some.py").write_text(source.format(1))
    module = importlib.import_module("plus_some")
    assert torch.equal(Start(tmp_path / "forms").run(module.Plus(), rows(2)), rows(2) + 1)
    (tmp_path / "plus_some.py").write_text(source.format("20"))
    module = importlib.reload(module)
    start = Start(tmp_path / "forms")
    assert torch.equal(start.run(module.Plus(), rows(2)), rows(2) + 20)
    assert start.saw(loaded=0, compiled=1)
    assert "its code changed" in told()


def test_a_call_is_described_by_layout_and_value_and_for_any_size_by_what_torch_takes_apart() -> None:
    a, b = rows(3), rows(4)
    assert describe_call((a,), {}) != describe_call((b,), {})
    assert outline(describe_call((a,), {})) == outline(describe_call((b,), {}))
    assert outline(describe_call((a,), {})) != outline(describe_call((rows(1),), {}))
    assert outline(describe_call((b,), {})) != outline(describe_call((rows(8)[:, ::2],), {}))
    assert describe_call(((a, a),), {}) != describe_call(((a, a.clone()),), {}), "who is the same tensor"
    assert describe_call((1,), {}) != describe_call((True,), {})
    assert describe_call((), {"x": None}) != describe_call((None,), {})

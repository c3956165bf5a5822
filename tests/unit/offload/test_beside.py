"""Two threads of a start take short turns; afterwards Python's own interval holds again, whoever ends first."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest

from worker.offload import beside as module
from worker.offload.beside import TURN_SECONDS, beside

USUAL = 0.004


@pytest.fixture(autouse=True)
def usual() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(USUAL)
    yield
    sys.setswitchinterval(before)


def is_about(seconds: float) -> bool:
    return sys.getswitchinterval() == pytest.approx(seconds, rel=0.1)


def test_turns_are_short_while_two_work_and_as_before_when_both_are_done() -> None:
    seen: list[bool] = []
    with beside(lambda: seen.append(is_about(TURN_SECONDS))):
        assert is_about(TURN_SECONDS)
    assert seen == [True]
    assert is_about(USUAL)


def test_who_began_first_may_end_first() -> None:
    first, second = beside(lambda: None), beside(lambda: None)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert is_about(TURN_SECONDS), "the second one still works"
    second.__exit__(None, None, None)
    assert is_about(USUAL)


def test_an_error_inside_waits_for_the_thread_and_leaves_the_interval_as_it_was() -> None:
    done = threading.Event()
    with pytest.raises(ValueError, match="inside"), beside(done.set):
        raise ValueError("inside")
    assert done.is_set()
    assert is_about(USUAL)


def test_a_thread_that_can_not_start_leaves_the_interval_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(module.threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="new thread"), beside(lambda: None):
        pass
    assert is_about(USUAL)


def test_an_interval_that_is_shorter_already_stays() -> None:
    sys.setswitchinterval(TURN_SECONDS / 4)
    with beside(lambda: None):
        assert is_about(TURN_SECONDS / 4)

# ruff: noqa: E501
"""The engine's invariants broken one by one: a test fails for each. `python -m tests.mutants_engine [NAME]`.

The project is copied to a folder for that, so its own files stay as they are. With `--on-card` what a card shows (weights
copied back, bytes of a plan, some of the order of its streams) is broken, and tests/gpu must notice.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
OFFLOAD, TESTS, CARD_TESTS = "worker/offload", "tests/unit/offload/test_", "tests/gpu/test_"
#: What the engine's tests need of the project.
PARTS = (
    "worker",
    "core",
    "deploy",
    "api",
    "scheduler",
    "client",
    "tests",
    "benchmarks",
    "models/tiny",
    "pyproject.toml",
)
NOTICED = 1  # pytest's code where tests failed
PATIENCE_SECONDS = 400.0


@dataclass(frozen=True, slots=True)
class Mutant:
    """In `file`, `old`, found there once, becomes `new`; `tests` names the files that must notice."""

    name: str
    invariant: int  # as docs/engine.md numbers them
    file: str
    old: str
    new: str
    tests: str

    @property
    def files(self) -> list[str]:
        return [f"{TESTS}{name}.py" if "::" not in name else f"{CARD_TESTS}{name}" for name in self.tests.split()]


MUTANTS = [
    Mutant(
        "another-block's-weights", 1, "weights.py", "self._in_scratch is block:", "self._in_scratch is not None:", "equality"
    ),
    Mutant(
        "further-exponents", 1, "packing.py", "target[parts.positions.long()] = parts.values", "pass", "packing"
    ),
    Mutant(
        "yielding-residents-are-stale", 1, "weights.py", "            berth.filled = False\n        self._lent", "            pass\n        self._lent", "budget"
    ),
    Mutant(
        "residents-fetched-each-time", 3, "weights.py", "        if not berth.filled:", "        if True:", "budget"
    ),
    Mutant("no-limit", 4, "allowance.py", "most if most - taken >= PIECE else taken", "None", "allowance"),
    Mutant("no-room-for-small-tensors", 4, "allowance.py", "min((most - before) // 2, SMALL_AHEAD)", "0", "allowance"),
    Mutant("blocks-in-the-common-pool", 4, "apart.py", "        with inside():\n", "        if True:\n", "apart"),
    Mutant("what-a-block-leaves-stays-inside", 4, "apart.py", "        return copied_out(output, given)", "        return output", "apart"),
    Mutant("budget-not-compared", 5, "placement.py", "            if over <= 0:", "            if True:", "budget"),
    Mutant("decode-not-planned-for", 5, "placement.py", "            self._place(self._corrected(over + allowance.SPARE))", "            pass", "budget"),
    Mutant("least-without-what-is-left-free", 5, "placement.py", " + allowance.untried()", "", "least_budget"),
    Mutant("least-with-what-is-cached", 5, "placement.py", "+ self._device.allocated_bytes()", "+ self._device.reserved_bytes()", "least_budget"),
    Mutant("company-in-strips-never-broken-up", 5, "placement.py", "if before.seats > 1 and self", "if before.decode_mode == 'plain' and before.seats > 1 and self", "least_budget"),
    Mutant("carried-as-it-lay-in-place", 3, "placement.py", "            plan = self._make_plan()  # the last one knew no packed sizes", "            pass", "least_budget"),
    Mutant("lent-ring-believed", 6, "ring.py", "        self._by_block.clear()", "        pass", "budget"),
    Mutant("arrival-not-awaited", 6, "ring.py", "        self._device.wait(slot.ready)\n        assert block", "        assert block", "order"),
    Mutant("last-use-not-awaited", 6, "ring.py", "block.host[kept:], slot.free)", "block.host[kept:], Mark())", "order"),
    Mutant("resident-not-awaited", 6, "weights.py", "        self._device.wait(berth.ready)\n        berth.ready = Mark()", "        berth.ready = Mark()", "order"),
    Mutant("resident-lent-on-its-way", 6, "weights.py", "            self._device.wait(berth.ready)\n            berth.filled", "            berth.filled", "order"),
    Mutant("resident-fetched-at-once", 6, "weights.py", "            self._berths[self._blocks[name]].free = self._device.mark()", "            pass", "order"),
    Mutant("head-refreshed-at-once", 6, "weights.py", "block.host[: head.numel()], self._device.mark())", "block.host[: head.numel()], Mark())", "order"),
    Mutant("resident-refreshed-at-once", 6, "weights.py", "berth.filled, berth.free = False, self._device.mark()", "berth.filled, berth.free = False, Mark()", "order"),
    Mutant("slots-survive-a-refresh", 1, "weights.py", "        self._in_scratch = None\n        self.ring.clear()\n", "        self._in_scratch = None\n", "order"),
    Mutant("memory-let-go-under-a-copy", 6, "weights.py", "        self._device.synchronize()  # copies", "        # copies", "order"),
    Mutant("head-joined-at-once", 6, "ring.py", "            self._device.join(slot.buffer[:kept], head, slot.free)", "            self._device.join(slot.buffer[:kept], head, Mark())", "order"),
    Mutant("ring-lent-on-its-way", 6, "ring.py", "            self._device.wait(slot.ready)\n            slot.block", "            slot.block", "order"),
    Mutant("ring-filled-at-once", 6, "ring.py", "        for slot in self.slots:\n            slot.free = self._device.mark()", "        for slot in self.slots:\n            slot.free = Mark()", "order"),
    Mutant("state-freed-before-it-is-out", 6, "parking.py", "            self._device.wait(self._device.stow(rider.parked.state, rider.left, self._last_recall))", "            self._device.stow(rider.parked.state, rider.left, self._last_recall)", "order"),
    Mutant("state-out-before-its-turn-has-ended", 6, "parking.py", "self._device.stow(rider.parked.state, rider.left, self._last_recall)", "self._device.stow(rider.parked.state, self._last_recall)", "order"),
    Mutant("boarding-not-awaited", 6, "engine.py", "                rider.left = self._device.mark()\n", "                rider.left = rider.left if rider.rode == 0 else self._device.mark()\n", "order"),
    Mutant("slot-filled-while-somebody-has-it", 6, "ring.py", "        self._by_block: dict[Block, Slot] = {}\n        self.reopen()\n", "        self._by_block: dict[Block, Slot] = {}\n", "order"),
    Mutant("state-out-over-one-that-comes-in", 6, "parking.py", "self._device.stow(rider.parked.state, rider.left, self._last_recall)", "self._device.stow(rider.parked.state, rider.left)", "order"),
    Mutant("state-ridden-before-it-is-in", 6, "parking.py", "            self._device.wait(rider.arriving)\n", "            pass\n", "order"),
    Mutant("state-in-before-it-is-out", 6, "parking.py", "self._device.recall(parked.state, self._device.mark())", "self._device.recall(parked.state, Mark())", "order"),
    Mutant("modes-left-to-others", 1, "rider.py", "            self._modes.leave()\n", "            pass\n", "modes"),
    Mutant("cancel-unseen", 7, "engine.py", "if rider.ticket.canceled]:", "if False]:", "tickets"),
    Mutant("parked-state-kept", 7, "parking.py", "            self._release(parked)\n            rider.parked = None\n", "            pass\n", "parking"),
    Mutant("state-held-while-it-rides", 7, "parking.py", "        rider.state = None  # what", "        # rider.state = None  # what", "parking"),
    Mutant("trial-rides-on", 7, "engine.py", "            self._end_trial()\n", "            self._trial = []\n", "left_over"),
    Mutant("anybody-boards-a-trial", 7, "boarding.py", " if trial else line\n", " if False else line\n", "left_over"),
    Mutant("frames-hold-memory", 7, "engine.py", "            let_go_of_frames(failure)\n", "", "rider_memory"),
    Mutant("store-longer-than-its-bytes", 8, "host_weights.py", "        os.ftruncate(self._file, self._used)", "        pass", "host_weights"),
]  # fmt: skip

DELAYS = "engine.py::test_random_delays_on_either_stream_change_nothing"
LENT = "engine.py::test_heads_and_a_lent_scratch_change_nothing_under_random_delays"
PARKED = "engine.py::test_parked_riders_are_the_plain_pipelines"
BOARDED = "engine.py::test_riders_parked_right_after_boarding_are_the_plain_pipelines"
BACK = "engine.py::test_no_weight_goes_back_to_the_host"
#: What a card shows. Other orders are kept there by luck, whatever the delays: tests/unit/offload/test_order.py knows them.
ON_CARD = [
    Mutant("boarding-not-awaited", 6, "engine.py", "                rider.left = self._device.mark()\n", "                rider.left = rider.left if rider.rode == 0 else self._device.mark()\n", BOARDED),
    Mutant("weights-copied-back", 2, "weights.py", "            self.ring.give(block)\n        self._in_scratch = block", "            source.cpu()\n            self.ring.give(block)\n        self._in_scratch = block", BACK),
    Mutant("carried-twice", 3, "ring.py", "        slot.ready = self._device.fetch(", "        self._device.fetch(slot.buffer[kept : block.host.numel()], block.host[kept:], slot.free)\n        slot.ready = self._device.fetch(", "engine.py::test_copies_match_the_plan"),
    Mutant("arrival-not-awaited", 6, "ring.py", "        self._device.wait(slot.ready)\n        assert block", "        assert block", DELAYS),
    Mutant("head-joined-at-once", 6, "ring.py", "            self._device.join(slot.buffer[:kept], head, slot.free)", "            self._device.join(slot.buffer[:kept], head, Mark())", LENT),
    Mutant("state-freed-before-it-is-out", 6, "parking.py", "            self._device.wait(self._device.stow(rider.parked.state, rider.left, self._last_recall))", "            self._device.stow(rider.parked.state, rider.left, self._last_recall)", PARKED),
    Mutant("state-out-before-its-turn-has-ended", 6, "parking.py", "self._device.stow(rider.parked.state, rider.left, self._last_recall)", "self._device.stow(rider.parked.state, self._last_recall)", PARKED),
    Mutant("state-in-before-it-is-out", 6, "parking.py", "self._device.recall(parked.state, self._device.mark())", "self._device.recall(parked.state, Mark())", PARKED),
]  # fmt: skip


def copy_project(folder: Path) -> None:
    """What the tests need, without compiled Python."""
    for part in PARTS:
        source, target = ROOT / part, folder / part
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.is_file():
            shutil.copy(source, target)


def run_tests(folder: Path, files: Sequence[str]) -> int:
    """pytest's exit code: 0 all passed, 1 some failed or never ended, others that it could not try."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *files]
    try:
        return subprocess.run(
            command, cwd=folder, capture_output=True, timeout=PATIENCE_SECONDS, check=False
        ).returncode
    except subprocess.TimeoutExpired:
        return NOTICED


def is_noticed(folder: Path, mutant: Mutant) -> bool:
    """Whether tests fail with it in place; raises ValueError where its text is not there once."""
    file = folder / OFFLOAD / mutant.file
    before = file.read_text()
    if before.count(mutant.old) != 1:
        raise ValueError(f"{mutant.name}: its text is {before.count(mutant.old)} times in {mutant.file}")
    file.write_text(before.replace(mutant.old, mutant.new))
    try:
        return run_tests(folder, mutant.files) == NOTICED
    finally:
        file.write_text(before)


def try_all(folder: Path, chosen: Sequence[Mutant]) -> list[str]:
    """Names of those that no test noticed."""
    unnoticed = []
    for number, mutant in enumerate(chosen, start=1):
        print(f"\r{number}/{len(chosen)} {mutant.name:40}", end="", file=sys.stderr, flush=True)
        if not is_noticed(folder, mutant):
            unnoticed.append(mutant.name)
            print(f"\nUNNOTICED {mutant.name} (invariant {mutant.invariant})", flush=True)
    return unnoticed


def main() -> int:
    """Try all, or those named; 1 if one goes unnoticed."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants_engine",
        description=__doc__,
        epilog="example: python -m tests.mutants_engine cancel",
    )
    parser.add_argument("names", nargs="*", help="how those to try begin; all of them without")
    parser.add_argument("--on-card", action="store_true", help="those that only a card shows, on this machine's")
    arguments = parser.parse_args()
    names, known = arguments.names, ON_CARD if arguments.on_card else MUTANTS
    chosen = [one for one in known if not names or any(one.name.startswith(name) for name in names)]
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        copy_project(folder)
        if run_tests(folder, sorted({file for mutant in chosen for file in mutant.files})):
            print("RED with everything in place")
            return 1
        unnoticed = try_all(folder, chosen)
    print(f"\n{len(chosen) - len(unnoticed)} of {len(chosen)} noticed in {time.monotonic() - begun:.0f} s")
    return 1 if unnoticed else 0


if __name__ == "__main__":
    sys.exit(main())

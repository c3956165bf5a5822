"""The worker's guards on a real card: NVML's reading, the watermark, out of memory, a lost CUDA context."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from structlog.testing import capture_logs

from core.settings import Settings
from tests.unit.offload.tiny import FAMILIES
from worker.card import Card, open_card
from worker.guards import Trouble, classify
from worker.offload import Carousel
from worker.process import SHRINK_GIB, WorkerProcess
from worker.watchdog import EXIT_STICKY
from worker.watermark import Watermark, WatermarkGuard

ROOT = Path(__file__).parents[2]
GIB = 1 << 30
WAIT_SECONDS = 60.0

#: Takes all of the card but a twentieth, says so, and holds it until its standard input ends.
FILLER = """
import sys, torch
free, total = torch.cuda.mem_get_info()
kept = []
while torch.cuda.mem_get_info()[0] > total // 20:
    kept.append(torch.empty(1 << 28, dtype=torch.uint8, device="cuda"))
print("full", flush=True)
sys.stdin.read()
"""

#: Reads past the end of a table on the card, as a broken kernel would, and leaves as the worker does.
LOSER = """
import sys, torch
from pathlib import Path
from worker.guards import Trouble, classify
from worker.watchdog import EXIT_STICKY, end_process
try:
    torch.zeros(4, device="cuda")[torch.full((8,), 1 << 20, device="cuda")].sum().item()
except Exception as error:
    assert classify(error) is Trouble.STICKY, repr(error)
    try:
        torch.ones(1, device="cuda").sum().item()
    except Exception:
        end_process(EXIT_STICKY, f"the CUDA context is lost: {type(error).__name__}", Path(sys.argv[1]))
"""


#: Loads a model as a worker does, and says what the card holds more than before.
LOADER = """
import sys, torch
from pathlib import Path
from benchmarks.engine_models import saved_model
from core.settings import Settings
from worker import pipeline
from worker.offload import card_memory
pipeline.load_model(Settings(model=str(saved_model(Path(sys.argv[1]) / "model", tiny=True)), device="cuda"))
torch.cuda.synchronize()
print(card_memory.bytes_since(card_memory.card_of("cuda")))
"""


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def a_full_card() -> Iterator[None]:
    """Another process holds nearly all of the card while inside."""
    with subprocess.Popen(
        [sys.executable, "-c", FILLER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "full\n"
            yield
        finally:
            other.kill()


def card() -> Card:
    found = open_card("cuda:0")
    assert found is not None, "NVML does not answer"
    return found


def test_nvml_sees_what_this_process_takes() -> None:
    torch.cuda.empty_cache()
    before = card().memory()
    ballast = torch.zeros(GIB, dtype=torch.uint8, device="cuda")
    taken = card().memory().used - before.used
    assert taken > 0.9 * ballast.numel()  # the driver frees some MiB of its own meanwhile, or takes them
    total = torch.cuda.get_device_properties(0).total_memory
    assert abs(before.total - total) < 2 * GIB
    del ballast
    torch.cuda.empty_cache()


def test_a_card_filled_by_another_process_stops_the_intake_until_it_has_room_again() -> None:
    emptied: list[float] = []
    riding = [1]
    guard = WatermarkGuard(
        card().memory,
        in_flight=lambda: riding[0],
        empty_cache=lambda: emptied.append(time.monotonic()),
        watermark=Watermark(hold_seconds=1.0),
        sample_seconds=0.05,
    )
    guard.start()
    try:
        with capture_logs() as lines:
            assert guard.admits
            with a_full_card():
                filled = time.monotonic()
                wait_until(lambda: not guard.admits)
                assert time.monotonic() - filled >= 0.9, "a short peak would not have stopped it"
                assert not emptied, "a ticket still rides"
                riding[0] = 0
                wait_until(lambda: bool(emptied))
            wait_until(lambda: guard.admits)
        assert guard.crossings == 1
        said = [(line["log_level"], line["event"]) for line in lines]
        assert said == [("error", "VRAM watermark"), ("warning", "VRAM is below the watermark again")]
    finally:
        guard.close()


def test_tickets_of_a_real_engine_finish_while_the_card_is_full_and_then_others_are_let_in(tmp_path: Path) -> None:
    order = {"prompt": "mug", "height": 128, "width": 128, "seed": 3}
    process = WorkerProcess(Settings(device="cuda", data_dir=tmp_path))
    pipe = FAMILIES["z-image"]().to("cuda")
    with Carousel(pipe, 20.0, device="cuda", compile="off", warm_up=((128, 128),), residents=2) as carousel:
        process.engine, process._device = carousel, "cuda"
        begun = time.monotonic()
        usual = carousel.submit(**order, steps=400).result(120).tobytes()  # type: ignore[arg-type]
        assert 3 * (time.monotonic() - begun) > 1.5, "three of them ride longer than the card must be full"
        emptied: list[int] = []  # bytes held by the allocator before and after

        def empty_cache() -> None:
            emptied.append(torch.cuda.memory_reserved())
            process._empty_cache()
            emptied.append(torch.cuda.memory_reserved())

        torch.empty(GIB, dtype=torch.uint8, device="cuda")  # cached from here on, most of it anew
        guard = WatermarkGuard(
            card().memory,
            in_flight=lambda: carousel.in_flight,
            empty_cache=empty_cache,
            watermark=Watermark(hold_seconds=1.0),
            sample_seconds=0.02,
        )
        with a_full_card():
            tickets = [carousel.submit(**order, steps=400) for _ in range(3)]  # type: ignore[arg-type]
            guard.start()
            try:
                wait_until(lambda: not guard.admits)
                assert carousel.in_flight, "it closed while tickets ride"
                assert not emptied
                assert {ticket.result(120).tobytes() for ticket in tickets} == {usual}
                wait_until(lambda: len(emptied) >= 4)
                assert min(emptied[1::2]) <= emptied[0] - GIB // 2
            except BaseException:
                guard.close()
                raise
        try:
            wait_until(lambda: guard.admits)
            assert carousel.submit(**order, steps=400).result(120).tobytes() == usual  # type: ignore[arg-type]
        finally:
            guard.close()
    assert guard.crossings == 1


def test_after_an_out_of_memory_error_the_plan_shrinks_and_the_same_picture_is_drawn(tmp_path: Path) -> None:
    pipe = FAMILIES["z-image"]().to("cuda")
    order = {"prompt": "mug", "height": 128, "width": 128, "seed": 3, "steps": 3}
    process = WorkerProcess(Settings(device="cuda", data_dir=tmp_path, vram_budget_gib=20.0))
    with Carousel(pipe, 20.0, device="cuda", compile="off", warm_up=((128, 128),), residents=2) as carousel:
        process.engine, process._device = carousel, "cuda"
        picture = carousel.submit(**order).result(120).tobytes()  # type: ignore[arg-type]
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 1) / total)
        try:
            with pytest.raises(torch.OutOfMemoryError) as caught:
                carousel.submit(**{**order, "height": 1024, "width": 1024}).result(120)  # type: ignore[arg-type]
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        assert classify(caught.value) is Trouble.MEMORY
        assert process._make_room(time.monotonic())
        assert carousel.plan.budget == int((20.0 - SHRINK_GIB) * GIB)
        assert carousel.submit(**order).result(120).tobytes() == picture  # type: ignore[arg-type]


def test_a_lost_cuda_context_ends_the_process_with_its_reason(tmp_path: Path) -> None:
    reason = tmp_path / "reason"
    done = subprocess.run(
        [sys.executable, "-c", LOSER, str(reason)], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == EXIT_STICKY, done.stderr[-2000:]
    assert "the CUDA context is lost" in reason.read_text()


def test_what_starting_cuda_takes_counts_for_the_budget_where_process_ids_are_hidden(tmp_path: Path) -> None:
    """In a container NVML often can not tell whose memory it is: what was in use before must be known."""
    command = [sys.executable, "-c", LOADER, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.split()[-1]) > 200 << 20, "a context takes more"

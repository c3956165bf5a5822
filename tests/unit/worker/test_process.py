"""What a worker's process tells of its card, and how it makes room on it."""

import threading
import time
from types import SimpleNamespace

from core.metrics import WORKER_GAUGES
from core.settings import Settings
from worker.card import CardMemory
from worker.process import SHRINK_GIB, WorkerProcess


class Shrinking:
    """An engine that takes any budget."""

    def __init__(self):
        self.asked = []

    def rebudget(self, budget_gib):
        self.asked.append(budget_gib)


class Silent:
    """NVML after the driver was replaced under it."""

    def memory(self):
        raise OSError("NVML: Unknown Error")


def process_with(engine):
    process = WorkerProcess(Settings(vram_budget_gib=5.8))
    process.engine, process._device = engine, "cpu"
    return process


def test_riders_that_ran_out_of_memory_together_shrink_the_plan_once():
    process = process_with(Shrinking())
    begun, answers = time.monotonic(), []
    threads = [threading.Thread(target=lambda: answers.append(process._make_room(begun))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert answers == [True] * 4, "each may try again"
    assert process.engine.asked == [5.8 - SHRINK_GIB]


def test_a_ride_that_began_on_the_smaller_plan_and_ran_out_of_memory_shrinks_it_again():
    process = process_with(Shrinking())
    process._make_room(time.monotonic())
    process._make_room(time.monotonic())

    assert process.engine.asked == [5.8 - SHRINK_GIB, 5.8 - 2 * SHRINK_GIB]


def test_a_heartbeat_holds_every_gauge_that_the_metrics_know():
    """The autoscaler reads one of them: a metric that is declared and never told keeps workers for ever."""
    process = process_with(Shrinking())
    process.engine.in_flight = 0
    process._watermark = None
    process._shelf = SimpleNamespace(count=0, bytes=0, has_room=lambda: True)
    process._card = SimpleNamespace(memory=lambda: CardMemory(used=2, total=3))
    told = process._gauges()

    assert set(told) == set(WORKER_GAUGES)
    assert told["gpu_memory_working_bytes"] == 0


def test_a_card_that_can_not_be_read_any_more_is_left_out_of_the_heartbeat():
    process = process_with(Shrinking())
    process._card = Silent()

    assert process._card_gauges() == {}

"""What turns the carousel: sharing, order, fairness, lanes, boarding, looking ahead."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch

from worker.offload import turn
from worker.offload.blocks import Block, Stop
from worker.offload.turn import Route, Turntable

TEXT, DENOISE, DECODE = 0, 1, 2


def blocks(stage: int, count: int, once: tuple[int, ...] = (), unneeded: tuple[int, ...] = ()) -> tuple[Stop, ...]:
    return tuple(
        Block(f"{stage}.{at}", torch.nn.Linear(2, 2), stage, at, once=at in once, unneeded=at in unneeded).stop
        for at in range(count)
    )


def route(text: int = 2, denoise: int = 3) -> Route:
    return Route((blocks(TEXT, text), blocks(DENOISE, denoise)), DENOISE, Stop(DECODE, 0))


@dataclass
class Passenger:
    """A rider in a simulation of whole rides."""

    name: str
    stop: Stop | None
    passes_left: int = 2
    lane: str = "interactive"
    waited: int = 0
    refined: bool = False
    fresh: bool = True
    visited: list[tuple[int, int]] = field(default_factory=list)

    def ride(self, way: Route) -> None:
        assert self.stop is not None
        self.visited.append((self.stop.stage, self.stop.position))
        self.fresh = self.fresh and self.stop.stage != way.looping
        self.stop, self.passes_left, self.refined = way.after(self.stop, self.passes_left, self.refined)


def run(table: Turntable, riders: list[Passenger], turns: int = 500) -> list[list[str]]:
    """Who rode in each turn, until all are home."""
    log = []
    for _ in range(turns):
        group = table.turn(riders)
        if not group:
            break
        log.append([rider.name for rider in group])
        for rider in group:
            rider.ride(table.route)
        riders = [rider for rider in riders if rider.stop is not None]
    return log


def test_the_core_can_be_read_in_one_sitting() -> None:
    assert len(Path(turn.__file__).read_text().splitlines()) <= 150


def test_a_lone_rider_passes_every_stop_in_order() -> None:
    way = route()
    rider = Passenger("a", way.start(), passes_left=2)
    run(Turntable(way), [rider])
    sweep = [(DENOISE, 0), (DENOISE, 1), (DENOISE, 2)]
    assert rider.visited == [(TEXT, 0), (TEXT, 1), *sweep, *sweep, (DECODE, 0)]


def test_riders_at_one_stop_share_its_turn() -> None:
    way = route()
    riders = [Passenger(name, way.stages[DENOISE][1], fresh=False) for name in "abc"]
    assert Turntable(way).turn(riders) == riders


def test_a_block_known_from_the_prompt_is_passed_by_in_later_passes() -> None:
    way = Route((blocks(TEXT, 1), blocks(DENOISE, 3, once=(1,))), DENOISE, Stop(DECODE, 0))
    rider = Passenger("a", way.start(), passes_left=3)
    run(Turntable(way), [rider])
    assert rider.visited.count((DENOISE, 1)) == 1
    assert rider.visited.count((DENOISE, 2)) == 3


def test_a_block_nobody_needs_is_never_a_stop() -> None:
    way = Route((blocks(TEXT, 3, unneeded=(2,)), blocks(DENOISE, 1)), DENOISE, Stop(DECODE, 0))
    rider = Passenger("a", way.start(), passes_left=1)
    run(Turntable(way), [rider])
    assert (TEXT, 2) not in rider.visited


def test_newcomers_board_one_per_sweep_and_end_one_by_one() -> None:
    way = route()
    riders = [Passenger(name, way.stages[DENOISE][0], passes_left=4) for name in "abcd"]
    log = run(Turntable(way), list(riders))
    homes = [index for index, rider in sorted((log_index(log, rider), rider.name) for rider in riders)]
    assert len(set(homes)) == 4
    assert [rider.visited[-1] for rider in riders] == [(DECODE, 0)] * 4


def log_index(log: list[list[str]], rider: Passenger) -> int:
    return max(index for index, names in enumerate(log) if rider.name in names)


def test_a_newcomer_does_not_wait_for_others_to_finish() -> None:
    way = route()
    table = Turntable(way)
    long = Passenger("long", way.start(), passes_left=1000)
    run(table, [long], turns=50)
    short = Passenger("short", way.start(), passes_left=1)
    log = run(table, [long, short], turns=60)
    assert short.stop is None, "it got home while the other still rides"
    assert log_index(log, short) < 25
    assert long.stop is not None


def test_nobody_waits_longer_than_a_sweep_of_everything() -> None:
    way = route(text=4, denoise=5)
    table = Turntable(way)
    riders = [Passenger(str(at), way.start(), passes_left=3 + at) for at in range(6)]
    while alive := [rider for rider in riders if rider.stop is not None]:
        for rider in table.turn(alive):
            rider.ride(way)
        assert all(rider.waited <= 60 for rider in riders)


def test_batch_riders_stay_parked_while_an_interactive_one_rides_but_not_for_ever() -> None:
    way = route()
    table = Turntable(way, patience=7)
    batch = Passenger("batch", way.stages[DENOISE][1], lane="batch", fresh=False)
    fast = Passenger("fast", way.start(), passes_left=50)
    log = run(table, [batch, fast], turns=30)
    assert log[:7] == [["fast"]] * 7
    assert 2 <= sum("batch" in names for names in log) <= 5


def test_one_decode_at_a_time_and_the_longest_waiting_first() -> None:
    way = route()
    riders = [Passenger(name, way.decode, waited=at) for at, name in enumerate("abc")]
    assert [rider.name for rider in Turntable(way).turn(riders)] == ["c"]


def test_looking_ahead_foretells_the_turns_that_come() -> None:
    way = route(text=3, denoise=4)
    table = Turntable(way)
    riders = [Passenger(name, way.start(), passes_left=left) for name, left in (("a", 2), ("b", 3), ("c", 1))]
    for _ in range(40):
        alive = [rider for rider in riders if rider.stop is not None]
        group = table.turn(alive)
        if not group:
            break
        foretold = [(stop.stage, stop.position) for stop in table.ahead(alive, group, 3)]
        for rider in group:
            rider.ride(way)
        alive = [rider for rider in riders if rider.stop is not None]
        twin = Turntable(way, table.patience, list(table.cursors), table.wheel)
        copies = [Passenger(r.name, r.stop, r.passes_left, r.lane, r.waited, r.refined, r.fresh) for r in alive]
        for place in foretold:
            coming = twin.turn([copy for copy in copies if copy.stop is not None])
            if not coming:
                assert place == (TEXT, 0), "after the last rider a newcomer's first stop is foretold"
                break
            assert coming[0].stop is not None
            assert (coming[0].stop.stage, coming[0].stop.position) == place
            for copy in coming:
                copy.ride(way)

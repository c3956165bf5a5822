"""What turns the carousel: which block is next, who rides it, and what comes after, so that it can be fetched.

Every stage (text encoder, denoiser, decode) is a wheel with a cursor. Turns go round robin over the wheels where
somebody waits; on a wheel the next block after the cursor that somebody waits for is served, and everybody who waits
there rides, one after another. So one sweep of the weights serves all, nobody waits for another to finish, and a
newcomer joins at the next block. While an interactive rider waits, batch riders stay parked, but none longer than
`patience` turns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from worker.offload.blocks import Stop


class Riding(Protocol):
    """Somebody who waits at a stop (None: not waiting)."""

    stop: Stop | None
    lane: str
    waited: int
    passes_left: int
    refined: bool
    fresh: bool


@dataclass(frozen=True, slots=True)
class Route:
    """All stops of every stage in running order; `looping` is the stage passed once per step."""

    stages: tuple[tuple[Stop, ...], ...]
    looping: int
    decode: Stop

    def after(self, stop: Stop, passes_left: int, refined: bool) -> tuple[Stop | None, int, bool]:
        """Where a rider at `stop` waits next (None: home), its passes left, whether its prompt's parts are known."""
        if stop.stage == self.decode.stage:
            return None, 0, False
        for candidate in self.stages[stop.stage][stop.position + 1 :]:
            if not self._is_passed_by(candidate, refined):
                return candidate, passes_left, refined
        if stop.stage != self.looping:
            return self._first(stop.stage + 1, refined), passes_left, refined
        if passes_left > 1:
            return self._first(self.looping, True), passes_left - 1, True
        return self.decode, 0, True

    def start(self) -> Stop:
        """Where a newcomer waits first."""
        return self._first(0, False)

    def _first(self, stage: int, refined: bool) -> Stop:
        for later in self.stages[stage:]:
            for stop in later:
                if not self._is_passed_by(stop, refined):
                    return stop
        return self.decode

    @staticmethod
    def _is_passed_by(stop: Stop, refined: bool) -> bool:
        return stop.block is not None and (stop.block.unneeded or (refined and stop.block.once))


Rider = TypeVar("Rider", bound=Riding)


@dataclass(slots=True)
class Shadow:
    """A rider in the simulation that looks ahead."""

    stop: Stop | None
    lane: str
    waited: int
    passes_left: int
    refined: bool
    fresh: bool

    def move_on(self, route: Route) -> None:
        if self.stop is not None:
            self.fresh = self.fresh and self.stop.stage != route.looping
            self.stop, self.passes_left, self.refined = route.after(self.stop, self.passes_left, self.refined)


@dataclass
class Turntable:
    """The wheels' cursors and the rules."""

    route: Route
    patience: int = 64
    cursors: list[int] = field(default_factory=list)
    wheel: int = -1

    def __post_init__(self) -> None:
        self.cursors = self.cursors or [-1] * (self.route.decode.stage + 1)

    def turn(self, riders: Sequence[Rider]) -> list[Rider]:
        """Move to the next stop and say who rides there; [] when nobody waits."""
        seated = self._not_parked([rider for rider in riders if rider.stop is not None])
        if not seated:
            return []
        places = {(rider.stop.stage, rider.stop.position) for rider in seated if rider.stop is not None}
        self.wheel = self._following(self.wheel, {stage for stage, _ in places})
        here = {position for stage, position in places if stage == self.wheel}
        self.cursors[self.wheel] = self._following(self.cursors[self.wheel], here)
        place = (self.wheel, self.cursors[self.wheel])
        group = [rider for rider in seated if rider.stop and (rider.stop.stage, rider.stop.position) == place]
        if self.wheel == self.route.decode.stage:
            group = [max(group, key=lambda rider: rider.waited)]  # one decode's memory at a time
        elif place == (self.route.looping, 0):
            group = self._boarding(group)
        for rider in riders:
            rider.waited = 0 if any(rider is other for other in group) else rider.waited + 1
        return group

    def ahead(self, riders: Sequence[Riding], served: Sequence[Riding], turns: int) -> Iterator[Stop]:
        """The stops of the turns after `served`'s, if nobody comes or leaves; at last a newcomer's first ones."""
        newcomer = Shadow(self.route.start(), "batch", 0, 0, False, True)
        shadows = [Shadow(r.stop, r.lane, r.waited, r.passes_left, r.refined, r.fresh) for r in riders]
        table = Turntable(self.route, self.patience, list(self.cursors), self.wheel)
        group = [shadow for shadow, rider in zip(shadows, riders, strict=True) if any(rider is one for one in served)]
        for _ in range(turns):
            for shadow in group:
                shadow.move_on(self.route)
            group = table.turn(shadows) or [newcomer]
            if group[0].stop is None:
                return
            yield group[0].stop

    @staticmethod
    def _boarding(group: list[Rider]) -> list[Rider]:
        """One newcomer per sweep: riders then end one by one, and text and decode hide behind others' steps."""
        first = max((rider for rider in group if rider.fresh), key=lambda rider: rider.waited, default=None)
        return [rider for rider in group if not rider.fresh or rider is first]

    def _not_parked(self, waiting: list[Rider]) -> list[Rider]:
        if all(rider.lane == "batch" for rider in waiting):
            return waiting
        return [rider for rider in waiting if rider.lane != "batch" or rider.waited >= self.patience]

    @staticmethod
    def _following(cursor: int, places: set[int]) -> int:
        """The next of `places` after the cursor, going round."""
        return min((place for place in places if place > cursor), default=min(places))

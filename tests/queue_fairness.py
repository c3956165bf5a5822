"""I6, read from the history: those who wait at the same time are released in proportion to their weights.

A release takes a turn of work / (weight of the tenant * weight of the lane); one that never ran gives its turn back.
While two queues of a model both hold jobs, what they were given since may differ by a tenth, or by a few turns at most:
in every moment, so also while processes are dead and just after.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

LANE_WEIGHTS = {"interactive": 4.0, "batch": 1.0}
TENTH = 0.1
#: Of each of two: a turn is taken whole, and what was released comes back in one step where a worker died.
TURNS_MOST = 3.0
#: Releases while both wait from which on a contest says anything.
TELLING_RELEASES = 5


@dataclass(frozen=True)
class Queue:
    """Where jobs of one tenant wait in one lane of one model."""

    tenant: str
    lane: str
    model: str = ""


@dataclass(frozen=True)
class Move:
    """One job's step, as far as a queue sees it."""

    queue: Queue
    turn: float  # of this job
    leaves: bool = False
    enters: bool = False
    taken: int = 0  # turns; -1: given back


@dataclass
class Contest:
    """What two queues were given while jobs waited in both."""

    first: Queue
    second: Queue
    turns: Mapping[Queue, float]  # how long one is
    given: dict[Queue, float] = field(default_factory=lambda: defaultdict(float))
    releases: int = 0
    worst: float = 0.0  # of how much the one was ahead; 1 is the most that may be
    told: str = ""

    @property
    def is_telling(self) -> bool:
        """Enough was released to show whether it was fair."""
        return self.releases >= TELLING_RELEASES

    def give(self, move: Move) -> None:
        """A turn of one of the two."""
        self.given[move.queue] += move.taken * move.turn
        self.releases += move.taken > 0
        first, second = self.given[self.first], self.given[self.second]
        both_turns = self.turns[self.first] + self.turns[self.second]
        most = max(TENTH * (first + second) / 2, TURNS_MOST * both_turns)
        if abs(first - second) / most > self.worst:
            self.worst = abs(first - second) / most
            self.told = f"{self.first} was given {first:.2f} and {self.second} {second:.2f} in {self.releases} releases"


def contests(moves: Iterable[Move]) -> list[Contest]:
    """All contests, each from when two queues began to wait until one of them was empty."""
    waiting: dict[Queue, int] = defaultdict(int)
    turns: dict[Queue, float] = defaultdict(float)
    is_on: dict[Queue, dict[Queue, Contest]] = defaultdict(dict)
    found = []
    for move in moves:
        queue = move.queue
        turns[queue] = max(turns[queue], move.turn)
        if move.taken:
            for contest in is_on[queue].values():
                contest.give(move)
        waiting[queue] += move.enters - move.leaves
        if move.enters and waiting[queue] == 1:
            for other, many in list(waiting.items()):
                if many and other != queue and other.model == queue.model:
                    contest = Contest(queue, other, turns)
                    is_on[queue][other] = is_on[other][queue] = contest
                    found.append(contest)
        elif move.leaves and not waiting[queue]:
            for other in is_on.pop(queue, {}):
                del is_on[other][queue]
    return found


def unfair(found: Iterable[Contest]) -> list[str]:
    """What was not in proportion; [] is right."""
    return [contest.told for contest in found if contest.worst > 1.0]

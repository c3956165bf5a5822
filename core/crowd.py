"""Who waits in a model's race, looked at at most once a second for all places that are asked meanwhile.

A job behind a few is placed by place.lua alone, exactly. Behind many, each place would cost Redis hundreds of commands
again and again, with which it could take in jobs instead.
"""

from __future__ import annotations

import itertools
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from core.errors import ZimgError
from core.job import Lane

logger = logging.getLogger(__name__)

#: As in shared_records.lua.
LANE_WEIGHTS = {Lane.INTERACTIVE: 4, Lane.BATCH: 1}
KEPT_SECONDS = 1.0
STALE_SECONDS = 2.0  # nobody waits for the new look meanwhile, but an older one serves nobody


@dataclass(frozen=True, slots=True)
class Head:
    """One tenant's lane in the race, as crowd.lua found it; it stands for `stands_for` like it."""

    entity: str
    virtual: float
    jobs: int
    work: float
    weight: float
    stands_for: float

    def before(self, tag: float) -> tuple[int, float]:
        """How many of its jobs start before the virtual time `tag`, and their work; as `before` of place.lua."""
        if self.jobs == 0:
            return 0, 0.0
        mean = self.work / self.jobs
        step = max(1e-9, mean) / self.weight
        count = max(0, min(self.jobs, math.ceil((tag - self.virtual) / step - 1e-6)))
        return count, count * mean


@dataclass(frozen=True, slots=True)
class Crowd:
    """One look at a race."""

    heads: Sequence[Head]

    def before(self, tag: float, entity: str) -> tuple[int, float]:
        """Jobs of all but `entity` that start before `tag`, and their work."""
        jobs, work = 0.0, 0.0
        for head in self.heads:
            if head.virtual < tag and head.entity != entity:
                count, of_count = head.before(tag)
                jobs, work = jobs + count * head.stands_for, work + of_count * head.stands_for
        return math.floor(jobs + 0.5), work

    def work_between_turns(self, tenant: str, weight: float, work: float) -> float:
        """What the service does from one start of the tenant's to its next, by its share of the weights.

        `weight` and `work` of a job stand for a tenant of whom nothing waits.
        """
        own = [head for head in self.heads if head.entity.rpartition("|")[0] == tenant and head.jobs]
        others = sum(head.weight * head.stands_for for head in self.heads if head not in own and head.jobs)
        own_weight = sum(head.weight for head in own) or weight
        mean = sum(head.work for head in own) / sum(head.jobs for head in own) if own else work
        return mean * (own_weight + others) / own_weight


def look_at(portion: Callable[[int], Sequence[str | int]]) -> Crowd:
    """Reads crowd.lua's answers, portion by portion."""
    answers = itertools.takewhile(len, map(portion, itertools.count()))
    rows = (row for answer in answers for row in zip(*[iter(answer)] * 6, strict=True))
    return Crowd([Head(str(row[0]), float(row[1]), int(row[2]), *map(float, row[3:])) for row in rows])


def in_a_thread(errand: Callable[[], None]) -> None:
    threading.Thread(target=errand, name="crowd", daemon=True).start()


class Crowds:
    """The last look at each model's race. Thread-safe: a look is replaced whole.

    `start` lets an errand run that nobody waits for.
    """

    def __init__(
        self,
        look: Callable[[str], Crowd],
        clock: Callable[[], float] = time.monotonic,
        start: Callable[[Callable[[], None]], None] = in_a_thread,
    ) -> None:
        self._look = look
        self._clock = clock
        self._start = start
        self._kept: dict[str, tuple[float, float, Crowd]] = {}  # model -> looked at, to be renewed at, what was seen

    def of(self, model: str) -> Crowd:
        """At most STALE_SECONDS old; one of more than KEPT_SECONDS is renewed meanwhile. Raises what `look` does."""
        now = self._clock()
        kept = self._kept.get(model)
        if kept is None or now - kept[0] >= STALE_SECONDS:
            return self._renew(model)
        looked_at, renew_at, crowd = kept
        if now >= renew_at:
            self._kept[model] = (looked_at, now + KEPT_SECONDS, crowd)
            self._start(lambda: self._try_to_renew(model))
        return crowd

    def _renew(self, model: str) -> Crowd:
        now = self._clock()
        crowd = self._look(model)
        self._kept[model] = (now, now + KEPT_SECONDS, crowd)
        return crowd

    def _try_to_renew(self, model: str) -> None:
        try:
            self._renew(model)
        except ZimgError as error:  # the next one to ask after STALE_SECONDS is told
            logger.info("the race could not be looked at: %s", error)

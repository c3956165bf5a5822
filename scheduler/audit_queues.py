"""The counts of waiting jobs and work against the queues, none of them held for longer than a step of its own."""

from __future__ import annotations

from collections.abc import Iterator

from redis.exceptions import WatchError

from core.job_store import JobStore
from core.logs import get_logger
from core.redis_client import PREFIX, redis_errors
from core.scripts import Scripts

#: Rows that one script looks at: 500 take 1 to 2 ms.
ROWS_AT_ONCE = 500
#: A longer queue is counted in parts, and the count is worth something only if nothing came or went meanwhile.
TRIES = 8
SAME_WORK = 0.001  # fractions that were added and taken away leave less

log = get_logger(__name__)


class QueueAudit:
    """Counts anew. Every method raises RedisUnavailable."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._redis = store.redis
        self._scripts = Scripts(store.redis)

    def counters(self, *, repair: bool) -> tuple[dict[str, float], dict[str, str]]:
        """Counts that are too high, by how much; and entries of queues that are no waiting jobs."""
        found, strays = dict[str, float](), dict[str, str]()
        for entity in self._queues():
            work, entries = self._queue(entity, repair=repair)
            if work:
                found[f"queued_work of {entity}"] = work
            strays |= dict.fromkeys(entries, "in a queue but not queued")
        lanes = self._store.audit_counts(repair=repair)
        return found | {f"nq of {lane}": float(many) for lane, many in lanes.items()}, strays

    def _queues(self) -> list[str]:
        """Every (tenant, lane, model) that has a queue, or whose waiting work is counted."""
        with redis_errors():
            keys = self._redis.scan_iter(f"{PREFIX}tq:*", count=ROWS_AT_ONCE)
            queues = [str(key).removeprefix(f"{PREFIX}tq:") for key in keys]
            counted = [str(one) for one in self._redis.hkeys(f"{PREFIX}queued_work")]
        return sorted({*queues, *counted})

    def _queue(self, entity: str, *, repair: bool) -> tuple[float, list[str]]:
        with redis_errors():
            rows = int(self._redis.zcard(f"{PREFIX}tq:{entity}"))
        if rows <= ROWS_AT_ONCE:
            return self._store.audit_queue(entity, repair=repair)
        strays = [one for part in self._parts(entity, rows, repair=repair) for one in part[1]]
        for _ in range(TRIES):
            try:
                return self._count_quiet(entity, repair=repair), strays
            except WatchError:
                continue
        log.info("queue is too busy to be counted", action="audit", queue=entity, rows=rows)
        return 0.0, strays

    def _count_quiet(self, entity: str, *, repair: bool) -> float:
        """Work counted too much. Raises WatchError if anything entered or left the queue meanwhile."""
        queue, counts = f"{PREFIX}tq:{entity}", f"{PREFIX}queued_work"
        with redis_errors(), self._redis.pipeline() as pipeline:
            pipeline.watch(queue)  # type: ignore[no-untyped-call]
            rows = int(pipeline.zcard(queue))
            counted = float(pipeline.hget(counts, entity) or 0)
            truth = sum(work for work, _ in self._parts(entity, rows, repair=False))
            is_off = abs(counted - truth) > SAME_WORK
            pipeline.multi()
            if repair and is_off:
                pipeline.hset(counts, entity, f"{truth:.17g}")
            else:
                pipeline.exists(queue)
            pipeline.execute()
        return counted - truth if is_off else 0.0

    def _parts(self, entity: str, rows: int, *, repair: bool) -> Iterator[tuple[float, list[str]]]:
        """Work and strays of each part, from the last one, so that what is taken out moves none to come."""
        for first in reversed(range(0, rows, ROWS_AT_ONCE)):
            last = first + ROWS_AT_ONCE - 1
            work, *strays = self._scripts.run("audit_slice", entity, first, last, int(repair))
            yield float(work), [str(one) for one in strays]

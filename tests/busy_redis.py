"""A client before each of whose calls something else happens on the same server: what an audit meets beside work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import redis

from core.job_store import JobStore
from scheduler.auditor import Auditor
from tests.queue_kit import Kit


class Busy(redis.Redis):
    """Calls `between` before each command, pipeline and script."""

    between: Callable[[], Any] = staticmethod(lambda: None)

    def execute_command(self, *arguments: Any, **options: Any) -> Any:
        self.between()
        return super().execute_command(*arguments, **options)

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Any:
        made = super().pipeline(transaction, shard_hint)
        execute = made.execute

        def after_something_else(*arguments: Any, **options: Any) -> Any:
            self.between()
            return execute(*arguments, **options)

        made.execute = after_something_else
        return made


def auditor_beside(kit: Kit, happens: Callable[[], Any]) -> tuple[Auditor, Busy]:
    """An auditor on the kit's server, and its client; `happens` is called before each of its calls."""
    busy = Busy(connection_pool=kit.redis.connection_pool)
    auditor = Auditor(JobStore(busy, kit.settings), pause_seconds=0)
    busy.between = happens
    return auditor, busy

"""What callers have the engine's thread do between its turns."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

#: The longest trial of a plan that was seen took 40 s.
GOING_ON_SECONDS = 300.0


@dataclass(frozen=True, slots=True, eq=False)
class Errand:
    """Work for the engine's thread, and the future that its caller waits for."""

    work: Callable[[], None]
    future: Future[None] = field(default_factory=Future)

    @property
    def is_wanted(self) -> bool:
        return not self.future.cancelled()

    def run(self) -> None:
        """Do it, unless nobody waits for it any more."""
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            self.work()
        except BaseException as error:
            self.future.set_exception(error)
        else:
            self.future.set_result(None)

    def give_up(self, reason: BaseException) -> None:
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(reason)

    def wait(self, timeout: float, late: str) -> None:
        """Until it is done; raises what went wrong, or TimeoutError saying `late`: it is not begun any more then.

        One that is being done is waited for, up to GOING_ON_SECONDS: what it changes its caller must know.
        """
        try:
            self.future.result(timeout)
        except TimeoutError:
            if self.future.cancel():
                raise TimeoutError(late) from None
            self.future.result(GOING_ON_SECONDS)  # or what it raised itself

"""How long a failed job waits before its next try: decided here, carried out by fail.lua."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Exponential backoff with jitter: `first_seconds` doubles with each failure, plus or minus `jitter` of itself."""

    max_attempts: int = 5
    first_seconds: float = 2.0
    most_seconds: float = 300.0
    jitter: float = 0.5

    def delay_seconds(self, failures: int, *, rng: random.Random | None = None) -> float:
        """The wait after the `failures`-th failure, counted from 1."""
        plain: float = min(self.most_seconds, self.first_seconds * 2.0 ** min(failures - 1, 32))
        spread: float = (rng or random).uniform(-self.jitter, self.jitter)
        return plain * (1.0 + spread)

    @property
    def most_delay_ms(self) -> int:
        """No wait is longer."""
        plain = self.first_seconds * 2.0 ** min(max(2, self.max_attempts) - 2, 32)
        return round(min(self.most_seconds, plain) * (1.0 + self.jitter) * 1000)

    def delays_ms(self, *, rng: random.Random | None = None) -> Sequence[int]:
        """One drawn delay for each failure that may be followed by another try; the script takes the one it needs."""
        return [round(self.delay_seconds(n, rng=rng) * 1000) for n in range(1, max(2, self.max_attempts))]

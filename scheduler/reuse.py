"""Before a finished picture is handed out for a fingerprint its object is looked for: what is not there is drawn anew.

The storage may lose what Redis remembers (a lifecycle rule, a restored bucket, an operator's hand). A picture that can
not be looked for, because the storage is away or a list is too long for it, is drawn anew as well: drawing it twice
costs seconds, a link to nothing costs the caller the picture.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import redis
import structlog

from core.errors import StorageFailure, StorageUnavailable
from core.image_store import ImageStore
from core.job import NewJob
from core.scripts import Scripts

#: For all pictures of one call.
LOOK_SECONDS = 15.0
#: How long a storage that did not answer is not asked again.
AWAY_SECONDS = 5.0
#: Up to so many objects are looked at one by one, more in listings of their folder.
FEW = 8
ASKED_AT_ONCE = 500  # fingerprints in one script

log = structlog.get_logger(__name__)

Part = TypeVar("Part")


@dataclass(frozen=True, slots=True)
class Shared:
    """A finished picture that the next job with this fingerprint would get: whose it is, and where it lies."""

    fingerprint: str
    job_id: str
    key: str


class Reuse:
    """Looks at the objects of pictures that a submit would share. Thread-safe."""

    def __init__(self, client: redis.Redis, images: ImageStore) -> None:
        self._scripts = Scripts(client)
        self._images = images
        self._away_until = 0.0

    def check(self, jobs: Sequence[NewJob]) -> int:
        """Forget the finished pictures that `jobs`, all of one tenant, would share and that are not in the storage.

        How many were forgotten; their fingerprints then lead to a run. Raises RedisUnavailable.
        """
        fingerprints = list(dict.fromkeys(job.fingerprint for job in jobs if job.fingerprint))
        if not fingerprints:
            return 0
        tenant = jobs[0].tenant
        lost = self._lost(self._shared(tenant, fingerprints))
        return sum(
            int(
                self._scripts.run("forget_picture", tenant, *(v for one in some for v in (one.fingerprint, one.job_id)))
            )
            for some in _parts(lost)
        )

    def _shared(self, tenant: str, fingerprints: Sequence[str]) -> list[Shared]:
        found: list[Shared] = []
        for some in _parts(fingerprints):
            answer = self._scripts.run("finished", tenant, *some)
            rows = zip(some, answer[::2], answer[1::2], strict=True)
            found += [Shared(fingerprint, job_id, key) for fingerprint, job_id, key in rows if job_id]
        return found

    def _lost(self, shared: Sequence[Shared]) -> list[Shared]:
        """Those whose object is not there, or can not be looked for in time."""
        there: set[str] = set()
        if time.monotonic() >= self._away_until:
            try:
                there.update(self._there({one.key for one in shared}))
            except (StorageUnavailable, StorageFailure) as error:
                self._away_until = time.monotonic() + AWAY_SECONDS
                log.warning("finished pictures are not looked for", action="draw anew", code=error.code)
        return [one for one in shared if one.key not in there]

    def _there(self, keys: Collection[str]) -> Iterator[str]:
        if len(keys) > FEW:
            yield from self._images.present(keys, time.monotonic() + LOOK_SECONDS)
        else:
            found = ((key, self._images.head(key)) for key in keys)
            yield from (key for key, stored in found if stored is not None and stored.size_bytes > 0)


def _parts(values: Sequence[Part]) -> Iterable[Sequence[Part]]:
    return (values[at : at + ASKED_AT_ONCE] for at in range(0, len(values), ASKED_AT_ONCE))

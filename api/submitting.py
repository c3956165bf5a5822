"""From a checked body to stored jobs: the one way in for /v1/jobs and /v1/images/generations."""

from __future__ import annotations

from api.context import Services
from api.repeats import is_retry
from api.schema import Drawing, bounded_retention
from core.job_store import Submitted
from scheduler.submission import Wish
from scheduler.tenants import Tenant


def submit(
    parts: Services, owner: Tenant, body: Drawing, *, key: str, body_hash: str, repeat_key: str = ""
) -> list[Submitted]:
    """Store `n` jobs, all or none. Raises InvalidRequest, and whatever Submission does; then nothing was stored.

    A call without an Idempotency-Key (`key`) joins the jobs of the same `repeat_key` within the last two seconds; one
    that says it is a retry, within fifteen minutes.
    """
    parts.rules.check(body.prompt)
    width, height = body.pixels(parts.profile)
    wish = Wish(
        prompt=body.prompt,
        width=width,
        height=height,
        seed=body.seed,
        metadata=body.metadata or {},
        idempotency_key=key,
        body_hash=body_hash,
        repeat_key="" if key else repeat_key,
        is_repeat=is_retry(),
        retention_seconds=bounded_retention(body.expires_in, parts.settings.picture_retention_seconds),
    )
    return parts.submission.submit_pictures(owner, wish, body.n or 1)

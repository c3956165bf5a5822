"""From a checked body to stored jobs: the one way in for /v1/jobs and /v1/images/generations."""

from __future__ import annotations

from api.context import Services, base_url_of_request
from api.schema import Drawing, ImageCreate, bounded_retention
from api.strict_json import printable
from core.errors import InvalidRequest
from core.job import Priority
from core.job_store import Submitted
from core.look import Look
from core.model_profile import ModelProfile
from scheduler.outbound import OutboundGuard
from scheduler.submission import Wish
from scheduler.tenants import Tenant


def submit(
    parts: Services, owner: Tenant, body: Drawing, *, key: str, body_hash: str, repeat_key: str = ""
) -> list[Submitted]:
    """Store `n` jobs, all or none. Raises InvalidRequest, and whatever Submission does; then nothing was stored.

    A call without a `key` joins the jobs of the same `repeat_key` within the last two seconds.
    """
    wish = _wish(parts, owner, body, key=key, body_hash=body_hash, repeat_key=repeat_key)
    return parts.submission.submit_pictures(owner, wish, body.n or 1)


def submit_and_look(
    parts: Services, owner: Tenant, body: Drawing, *, key: str, body_hash: str, repeat_key: str = ""
) -> tuple[list[Submitted], Look]:
    """As `submit`; and how the jobs stand, for an answer that tells of them at once."""
    wish = _wish(parts, owner, body, key=key, body_hash=body_hash, repeat_key=repeat_key)
    return parts.submission.submit_and_look(owner, wish, body.n or 1)


def _wish(parts: Services, owner: Tenant, body: Drawing, *, key: str, body_hash: str, repeat_key: str) -> Wish:
    parts.rules.check(body.prompt)
    webhook_url = _checked_webhook(parts, owner, body.webhook_url)
    profile = wanted_profile(parts, body.model, any_name=isinstance(body, ImageCreate))
    width, height = body.pixels(profile)
    return Wish(
        prompt=body.prompt,
        width=width,
        height=height,
        model=profile.id,
        seed=body.seed,
        metadata=body.metadata or {},
        idempotency_key=key,
        body_hash=body_hash,
        repeat_key="" if key else repeat_key,
        priority=Priority(body.priority or "normal"),
        webhook_url=webhook_url,
        base_url=base_url_of_request(),
        retention_seconds=bounded_retention(body.expires_in, parts.settings.picture_retention_seconds),
        variation=_variation(body),
    )


def _variation(body: Drawing) -> str:
    """What `metadata.variation` says, if it is a part of the prompt: the picture tells no more than its prompt does."""
    said = (body.metadata or {}).get("variation")
    return said if isinstance(said, str) and said in body.prompt else ""


def _checked_webhook(parts: Services, owner: Tenant, url: str | None) -> str:
    """The URL, once there is an endpoint that signs for it. Raises InvalidRequest naming `webhook_url`."""
    if url is None:
        return ""
    OutboundGuard(parts.settings.webhook_allow).check(url, field="webhook_url")
    parts.webhooks.for_requests(owner.name)
    return url


def wanted_profile(parts: Services, model: str | None, *, any_name: bool = False) -> ModelProfile:
    """The profile of the model that a request names. Raises InvalidRequest for one that is not here.

    `any_name`: clients of OpenAI's API must name a model, so where there is one only every name means it.
    """
    if not model or (any_name and not parts.further):
        return parts.profile
    found = next((one for one in parts.profiles if one.id == model), None)
    if found is None:
        raise InvalidRequest(no_such_model(parts, model), field="model")
    return found


def no_such_model(parts: Services, model: str) -> str:
    """The sentence that names what was asked for and what there is."""
    return f"There is no model {printable(model)}. The models here: {', '.join(one.id for one in parts.profiles)}."

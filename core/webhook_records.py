"""Webhook endpoints and deliveries as they stand in Redis, and what of them a release knows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from core.webhook_due import lane_of

SECRETS_MOST = 5  # of an endpoint: the newest, and those whose time is not over
REQUEST = "request"  # the source of a tenant's endpoint for what its requests name


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """A signing secret (`whsec_…`); after a rotation the old one signs too, until `until_ms` (0 = for good)."""

    value: str
    until_ms: int = 0

    def signs(self, now_ms: int) -> bool:
        return not self.until_ms or now_ms < self.until_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a tenant's events go. `events` empty = all of them; `disabled` "" = on, else why it was turned off.

    The one of `source` "request" has no URL of its own: it signs and logs what goes to the `webhook_url` of requests.
    """

    id: str
    tenant: str
    url: str
    events: tuple[str, ...] = ()
    secrets: tuple[Secret, ...] = ()
    created_ms: int = 0
    disabled: str = ""
    source: str = ""

    @property
    def is_for_requests(self) -> bool:
        return self.source == REQUEST

    def wants(self, event_type: str) -> bool:
        return not self.disabled and (not self.events or event_type in self.events)

    def rotated(self, value: str, *, now_ms: int, overlap_ms: int) -> tuple[Endpoint, int]:
        """With a new secret; the one before signs for `overlap_ms`, older ones until their own end. Pure.

        And how many of them end at once, the ones that end first, because more than SECRETS_MOST may not sign.
        """
        until = {one: one.until_ms or now_ms + overlap_ms for one in self.secrets}
        old = [replace(one, until_ms=until[one]) for one in self.secrets if until[one] > now_ms]
        kept = sorted(old, key=lambda one: -one.until_ms)[: SECRETS_MOST - 1]
        return replace(self, secrets=(Secret(value=value), *kept)), len(old) - len(kept)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try to deliver. `status` 0 = no answer; `error` says why."""

    at_ms: int
    status: int
    duration_ms: int
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One event on its way to one endpoint. `state`: pending, delivered or failed; `url` "" = the endpoint's own."""

    id: str
    endpoint_id: str
    tenant: str
    event_id: str
    type: str
    body: str
    created_ms: int
    state: str = "pending"
    next_ms: int = 0
    attempts: tuple[Attempt, ...] = field(default_factory=tuple)
    url: str = ""
    uncounted: int = 0  # the first so many attempts are from before it was sent again

    @property
    def tries(self) -> int:
        """Attempts that count: those since it was sent, or sent again."""
        return len(self.attempts) - self.uncounted

    @property
    def lane(self) -> str:
        """Where it waits for its turn."""
        return lane_of(self.endpoint_id, self.tenant, self.url)


def to_json(kept: Endpoint | Delivery) -> str:
    """As JSON, without a field that a release added where it says nothing: the one before does not know it."""
    added = {"source"} if isinstance(kept, Endpoint) else {"url", "uncounted"}
    return json.dumps({name: value for name, value in asdict(kept).items() if value or name not in added})


def endpoint_from(stored: dict[str, Any]) -> Endpoint:
    known = _known(Endpoint, stored)
    known["events"] = tuple(known["events"])
    known["secrets"] = tuple(Secret(**_known(Secret, one)) for one in known["secrets"])
    return Endpoint(**known)


def delivery_from(stored: dict[str, Any]) -> Delivery:
    known = _known(Delivery, stored)
    known["attempts"] = tuple(attempt_from(one) for one in known["attempts"])
    return Delivery(**known)


def attempt_from(stored: dict[str, Any]) -> Attempt:
    return Attempt(**_known(Attempt, stored))


def _known(kind: Any, stored: Mapping[str, Any]) -> dict[str, Any]:
    """What this release knows of it: a newer one may have written more."""
    names = {one.name for one in fields(kind)}
    return {name: value for name, value in stored.items() if name in names}

"""The part of the client that is about webhooks: endpoints, what was sent to them, and sending it again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from .answers import Made, each, not_ours, page_of, with_members

PAGE_MOST = 100
_ENDPOINT = with_members("id", "url", "events", "enabled", "disabled_because")
_WITH_SECRET = with_members("id", "secret")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to deliver an event; `status` is 0 where nobody answered, and `error` says why."""

    at: int
    status: int
    duration_ms: int
    error: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event on its way to an endpoint. `state`: pending, delivered or failed. `raw` has everything else."""

    id: str
    event_id: str
    type: str
    state: str
    created_at: int
    attempts: tuple[Attempt, ...] = ()
    url: str = ""
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Delivery:
        """From the service's JSON."""
        tried = (
            Attempt(at=one["at"], status=one["status"], duration_ms=one["duration_ms"], error=one["error"] or "")
            for one in body["attempts"]
        )
        return cls(
            id=body["id"],
            event_id=body["event_id"],
            type=body["type"],
            state=body["state"],
            created_at=body["created_at"],
            attempts=tuple(tried),
            url=body["url"] or "",
            raw=body,
        )


class WebhookCalls(ABC):
    """The calls about webhooks. An endpoint's id may be `requests`: what goes to the `webhook_url` of requests."""

    @abstractmethod
    def _call(self, method: str, path: str, **options: Any) -> httpx.Response:
        """The service's answer; raises for every one that is no success. Whoever has the connection brings it."""

    @abstractmethod
    def _ask(self, make: Callable[[Any], Made], method: str, path: str, **options: Any) -> Made:
        """What `make` makes of the answer's JSON; raises for what zimg does not write."""

    def _delete(self, path: str) -> None:
        """Raises where it is not zimg that says that it is deleted."""
        answer = self._call("DELETE", path)
        if answer.status_code != httpx.codes.NO_CONTENT:
            raise not_ours(answer)

    def create_webhook(self, url: str, *, events: Sequence[str] = ()) -> dict[str, Any]:
        """A new endpoint; its signing secret is in `secret`, this once."""
        return self._ask(_WITH_SECRET, "POST", "/v1/webhooks", json={"url": url, "events": list(events)})

    def webhooks(self) -> list[dict[str, Any]]:
        """Your endpoints, oldest first."""
        return self._ask(each(_ENDPOINT), "GET", "/v1/webhooks")

    def change_webhook(
        self,
        endpoint_id: str,
        *,
        url: str | None = None,
        events: Sequence[str] | None = None,
        enabled: bool | None = None,
    ) -> dict[str, Any]:
        """Change what is named of an endpoint; `enabled` turns it off, or on again."""
        wish = {"url": url, "events": None if events is None else list(events), "enabled": enabled}
        body = {name: value for name, value in wish.items() if value is not None}
        return self._ask(_ENDPOINT, "PATCH", f"/v1/webhooks/{endpoint_id}", json=body)

    def test_webhook(self, endpoint_id: str) -> Delivery:
        """Let the service send a test event to an endpoint."""
        return self._ask(Delivery.of, "POST", f"/v1/webhooks/{endpoint_id}/test")

    def deliveries(self, endpoint_id: str, *, failed: bool = False, limit: int = 50) -> list[Delivery]:
        """The newest events that went to an endpoint, at most `limit`; `failed`: those that were given up alone."""
        found: list[Delivery] = []
        cursor = ""
        while len(found) < limit:
            query = {"limit": str(min(PAGE_MOST, limit - len(found))), "cursor": cursor}
            query["status"] = "failed" if failed else ""
            named = {name: value for name, value in query.items() if value}
            path = f"/v1/webhooks/{endpoint_id}/deliveries"
            page, cursor = self._ask(page_of(Delivery.of), "GET", path, params=named)
            found += page
            if not cursor:
                break
        return found

    def resend(self, endpoint_id: str, delivery_id: str) -> Delivery:
        """Send an event again at once, with all its tries; its receiver knows it by its id."""
        return self._ask(Delivery.of, "POST", f"/v1/webhooks/{endpoint_id}/deliveries/{delivery_id}/resend")

    def rotate_webhook(self, endpoint_id: str, *, overlap_seconds: int = 86_400) -> dict[str, Any]:
        """A new signing secret, in `secret` this once; the old one signs too for `overlap_seconds`."""
        body = {"overlap_seconds": overlap_seconds}
        return self._ask(_WITH_SECRET, "POST", f"/v1/webhooks/{endpoint_id}/rotate", json=body)

    def delete_webhook(self, endpoint_id: str) -> None:
        """Remove an endpoint."""
        self._delete(f"/v1/webhooks/{endpoint_id}")

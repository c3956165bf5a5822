"""What the service's answers are made into, and how it is said that one is none of zimg's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import httpx

Made = TypeVar("Made")

#: What stands before a service answers so while that is away.
GONE_AWAY = (502, 503, 504)


class ZimgProblem(Exception):
    """Raised for every answer that is not a success; `code` is stable, `field` names what was wrong.

    `status` is 0 when the service did not answer at all; then there is a `code` only where it was not even asked, since
    the key, the address or the call is none that HTTP can carry. An answer of something else than zimg has no `code`.
    """

    def __init__(self, status: int, body: Mapping[str, Any], message: str = "") -> None:
        super().__init__(message or str(body.get("detail") or body.get("title") or f"HTTP {status}"))
        self.status = status
        self.code = str(body.get("code", ""))
        self.field = body.get("field")
        self.request_id = str(body.get("request_id", ""))
        self.errors: list[Mapping[str, Any]] = list(body.get("errors", ()))


def made_of(answer: httpx.Response, make: Callable[[Any], Made]) -> Made:
    """What `make` makes of an answer's JSON. Raises ZimgProblem where that is not as zimg writes it."""
    try:
        return make(answer.json())
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise not_ours(answer) from error


def with_members(*names: str) -> Callable[[Any], dict[str, Any]]:
    """Makes a dictionary of a body that has at least these members."""

    def make(body: Any) -> dict[str, Any]:
        for name in names:
            body[name]
        return dict(body)

    return make


def each(make: Callable[[Any], Made]) -> Callable[[Any], list[Made]]:
    """Makes what `make` makes of each of a list."""
    return lambda body: [make(one) for one in body["data"]]


def page_of(make: Callable[[Any], Made]) -> Callable[[Any], tuple[list[Made], str]]:
    """Makes what `make` makes of each of a page, and the cursor of the next page, "" at the end."""
    return lambda body: (each(make)(body), body["next_cursor"] or "")


def problem_of(answer: httpx.Response) -> ZimgProblem:
    """What an answer that is no success says."""
    try:
        body = answer.json()
    except ValueError:
        body = None
    if isinstance(body, dict) and "code" in body:
        return ZimgProblem(answer.status_code, body)
    return not_ours(answer)


def not_ours(answer: httpx.Response) -> ZimgProblem:
    """That whoever answered is not zimg, and what to look at."""
    asked = answer.request.url
    status = answer.status_code
    if answer.has_redirect_location:
        there = asked.join(answer.headers["Location"])
        if _origin(there) != _origin(asked):
            return ZimgProblem(status, {}, f"{_origin(asked)} sends on to {_origin(there)}. Use that address.")
    what = "" if answer.is_success else f" with HTTP {status}"
    look = "Is zimg running behind it?" if status in GONE_AWAY else "Is the address right?"
    return ZimgProblem(
        0 if answer.is_success else status, {}, f"{_origin(asked)} answers{what}, but not as zimg does. {look}"
    )


def _origin(url: httpx.URL) -> str:
    return f"{url.scheme}://{url.netloc.decode('ascii')}"

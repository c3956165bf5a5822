"""Request headers that carry meaning of ours: Idempotency-Key, Prefer, and the limits told in answers."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from flask import Response, request

from api.schema import WAIT_SECONDS_MOST
from core.errors import InvalidRequest
from core.job import Job
from core.job_store import Submitted

_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")
QUOTE = '"'
_PREFER_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*(\"?)([0-9]+)\1(?=[,;\s]|$)", re.IGNORECASE)
DIGITS_READ = 9  # a longer number is cut to what we grant as well


@dataclass(frozen=True, slots=True)
class Preference:
    """What `Prefer` asks for (RFC 7240): seconds to wait for the result, and what is said to have been applied."""

    wait_seconds: int = 0
    applied: str = ""

    def without_waiting(self) -> Preference:
        """What is left of it where nobody can wait."""
        return Preference(applied="respond-async" if "respond-async" in self.applied else "")


def idempotency_key(route: str) -> str:
    """The caller's key, made separate for each route; "" without one. Raises InvalidRequest for a malformed one."""
    sent = request.headers.get("Idempotency-Key", "").strip()
    if not sent.strip(QUOTE):
        return ""  # it says nothing
    is_quoted = len(sent) > 1 and sent[0] == sent[-1] == QUOTE  # the draft's form; most clients send it bare
    bare = sent[1:-1] if is_quoted else sent
    if not _IDEMPOTENCY_KEY.fullmatch(bare):
        message = "Idempotency-Key must have 1 to 255 printable ASCII characters without spaces."
        raise InvalidRequest(message, field="Idempotency-Key")
    return f"{route}:{bare}"


def body_hash(body: Mapping[str, Any]) -> str:
    """The same for two bodies that mean the same, whatever the order of their members."""
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def preference() -> Preference:
    """`Prefer: wait=N`, cut to what we grant; `respond-async` alone waits for nothing, which is what we do anyway."""
    sent = ", ".join(request.headers.getlist("Prefer"))
    match = _PREFER_WAIT.search(sent)
    seconds = min(int(match[2].lstrip("0")[:DIGITS_READ] or 0), WAIT_SECONDS_MOST) if match else 0
    applied = ["respond-async"] if "respond-async" in sent.lower() else []
    return Preference(seconds, ", ".join([*applied, *([f"wait={seconds}"] if seconds else [])]))


def name_ignored(response: Response, names: list[str]) -> None:
    """Name the parameters that changed nothing; a name that a header can't hold is made printable."""
    if names:
        response.headers["X-Zimg-Ignored"] = ", ".join(_header_safe(name) for name in names[:50])


def name_hits(response: Response, answers: Iterable[Job | Submitted]) -> None:
    """Name the jobs whose pictures these share, as far as is known."""
    leaders = [one.leader for one in answers if one.leader]
    if leaders:
        response.headers["X-Zimg-Dedup-Of"] = ",".join(leaders)


def _header_safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.\-]", "?", name[:64])

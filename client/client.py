"""A small typed client of zimg's HTTP API.

with Zimg("http://127.0.0.1:8080") as zimg:
    job = zimg.wait(zimg.submit("a red mug on a white background")[0].id)
    Path("mug.png").write_bytes(zimg.download(job))
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import urlsplit

import httpx

from .answers import GONE_AWAY, Made, ZimgProblem, each, made_of, page_of, problem_of, with_members
from .webhook_calls import WebhookCalls

__all__ = ["Job", "Picture", "Zimg", "ZimgProblem"]

DEFAULT_URL = "http://127.0.0.1:8080"
Priority = Literal["low", "normal", "high"]
ENDED = frozenset({"succeeded", "failed", "canceled", "expired"})
LONG_POLL_SECONDS = 20
TRIES = 4
SHORT_LIMIT_SECONDS = 5
LONGEST_PAUSE_SECONDS = 30.0
_BATCH = with_members("id", "name", "status", "request_counts")
#: What comes up before a byte is on its way, and would each time: a header or an address that HTTP does not have.
NOT_SENDABLE = (httpx.LocalProtocolError, httpx.UnsupportedProtocol, httpx.InvalidURL, UnicodeError)


@dataclass(frozen=True, slots=True)
class Picture:
    """A finished picture."""

    url: str
    sha256: str
    width: int
    height: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the service shows it; `dedup_of` is the job whose picture this one shares. `raw` has everything else."""

    id: str
    status: str
    prompt: str
    seed: int
    step: int = 0
    steps: int = 0
    share_done: float = 0.0
    queue_position: int | None = None
    eta_seconds: float | None = None
    picture: Picture | None = None
    error_code: str = ""
    error: str = ""
    priority: str = "normal"
    fingerprint: str = ""
    dedup_of: str = ""
    created_at: int = 0
    model: str = ""
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def has_ended(self) -> bool:
        return self.status in ENDED

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Job:
        """From the service's JSON."""
        progress, error = body.get("progress") or {}, body.get("error") or {}
        image = next(iter(body.get("images", ())), None)
        known = {name: image[name] for name in ("url", "sha256", "width", "height", "bytes")} if image else None
        return cls(
            id=body["id"],
            status=body["status"],
            prompt=body["prompt"],
            seed=body["seed"],
            step=progress.get("step", 0),
            steps=progress.get("steps", 0),
            share_done=progress.get("value", 0.0),
            queue_position=body.get("queue_position"),
            eta_seconds=body.get("eta_seconds"),
            picture=Picture(**known) if known else None,
            error_code=error.get("code", ""),
            error=error.get("message", ""),
            priority=body.get("priority", "normal"),
            fingerprint=body.get("fingerprint") or "",
            dedup_of=(body.get("dedup") or {}).get("of") or "",
            created_at=body.get("created_at") or 0,
            model=(body.get("model") or {}).get("id") or "",
            raw=body,
        )


class Zimg(WebhookCalls):
    """The service at one address, as one tenant. Every method raises ZimgProblem."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        key: str = "",
        timeout_seconds: float = 60.0,
        language: str = "",
        tell: Callable[[str], None] | None = None,
    ) -> None:
        """`language`, such as `zh-CN`, is what the service's messages are asked for in.

        `tell` is told in a sentence, once in each call, that no answer came in time and that it is asked for again.
        """
        key = checked_key(key)
        wanted = {"Authorization": f"Bearer {key}" if key else "", "Accept-Language": language}
        headers = {name: value for name, value in wanted.items() if value}
        base_url = checked_address(url).rstrip("/")
        try:
            self._http = httpx.Client(base_url=base_url, headers=headers, timeout=timeout_seconds)
        except NOT_SENDABLE as error:
            raise _not_sendable(error) from error
        self._tell = tell or _tell_nobody

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # Pictures

    def submit(
        self,
        prompt: str,
        *,
        size: str | None = None,
        seed: int | None = None,
        n: int = 1,
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: str = "",
        priority: Priority | None = None,
        webhook_url: str | None = None,
        model: str | None = None,
        expires_in: int | None = None,
    ) -> list[Job]:
        """Hand in `n` pictures; safe against lost answers, since it is repeated under one Idempotency-Key.

        `model` is one of `models()`, the service's default when absent. `webhook_url` is told the end of each; its
        secret comes from `rotate_webhook("requests")`. `expires_in`: seconds to keep the pictures.
        """
        wish = {"prompt": prompt, "size": size, "seed": seed, "n": n if n > 1 else None, "metadata": metadata}
        wish |= {"priority": priority, "webhook_url": webhook_url, "model": model, "expires_in": expires_in}
        return self._ask(
            lambda body: [Job.of(one) for one in (body["data"] if body["object"] == "list" else [body])],
            "POST",
            "/v1/jobs",
            json={name: value for name, value in wish.items() if value is not None},
            headers={"Idempotency-Key": idempotency_key or secrets.token_hex(16)},
        )

    def job(self, job_id: str) -> Job:
        """The job as it stands."""
        return self._ask(Job.of, "GET", f"/v1/jobs/{job_id}")

    def jobs(self, *, status: str = "", batch: str = "", limit: int = 20) -> list[Job]:
        """The newest jobs, at most `limit`."""
        found: list[Job] = []
        cursor = ""
        while len(found) < limit:
            query = {"status": status, "batch": batch, "cursor": cursor, "limit": str(min(100, limit - len(found)))}
            named = {name: value for name, value in query.items() if value}
            page, cursor = self._ask(page_of(Job.of), "GET", "/v1/jobs", params=named)
            found += page
            if not cursor:
                break
        return found

    def follow(self, job_id: str) -> Iterator[Job]:
        """The job each time it looks different, until it has ended."""
        tag = ""
        while True:
            headers = {"If-None-Match": tag} if tag else {}
            wait = LONG_POLL_SECONDS if tag else 0
            answer = self._call("GET", f"/v1/jobs/{job_id}", params={"wait": str(wait)}, headers=headers)
            if answer.status_code == httpx.codes.NOT_MODIFIED:
                continue
            tag = answer.headers.get("ETag", "")
            job = made_of(answer, Job.of)
            yield job
            if job.has_ended:
                return

    def wait(self, job_id: str) -> Job:
        """The job at its end."""
        *_, last = self.follow(job_id)
        return last

    def cancel(self, job_id: str) -> Job:
        """Ask a job to stop; safe to repeat."""
        return self._ask(Job.of, "POST", f"/v1/jobs/{job_id}/cancel")

    def cancel_all(self, job_ids: Sequence[str]) -> list[Job]:
        """Ask several jobs to stop, all or, where one of them is not yours, none."""
        make, body = each(Job.of), {"ids": list(job_ids)}
        return self._ask(make, "POST", "/v1/jobs/cancel", json=body)

    def delete(self, job_id: str) -> None:
        """Delete an ended job with its picture and prompt."""
        self._delete(f"/v1/jobs/{job_id}")

    def download(self, job: Job) -> bytes:
        """The PNG of a job that succeeded."""
        if job.picture is None:
            raise ValueError(f"job {job.id} has no picture: it is {job.status}")
        return self._call("GET", f"/i/{job.id}.png").content

    def models(self) -> list[str]:
        """The ids of the service's models, the default one first."""
        return self._ask(each(lambda one: str(one["id"])), "GET", "/v1/models")

    # Product lists

    def create_batch(
        self,
        file: Path,
        *,
        data: bytes | None = None,
        templates: Mapping[str, str] | None = None,
        size: str = "",
        model: str = "",
    ) -> dict[str, Any]:
        """Hand in a product list, `data` where it is no file; `templates` maps `white` and `scene` to prompts."""
        named = {"size": size, "model": model}
        form = {**(templates or {}), **{name: value for name, value in named.items() if value}}
        return self._ask(
            _BATCH,
            "POST",
            "/v1/batches",
            data=form,
            files={"file": (file.name, file.read_bytes() if data is None else data, "text/csv")},
            headers={"Idempotency-Key": secrets.token_hex(16)},
        )

    def batch(self, batch_id: str) -> dict[str, Any]:
        """The batch as it stands."""
        return self._ask(_BATCH, "GET", f"/v1/batches/{batch_id}")

    def manifest(self, batch_id: str) -> bytes:
        """The list with links, as CSV."""
        return self._call("GET", f"/v1/batches/{batch_id}/manifest.csv").content

    # Account

    def usage(self) -> dict[str, Any]:
        """What was used today, and the limits."""
        make = with_members("tenant", "daily_used", "daily_limit", "daily_reserved")
        return self._ask(make, "GET", "/v1/usage")

    def account(self) -> dict[str, Any]:
        """What was used on each of the last 30 days, the limits, and one's own keys."""
        return self._ask(with_members("days"), "GET", "/v1/account")

    def create_key(
        self,
        tenant: str,
        *,
        label: str = "",
        admin: bool = False,
        daily_units: int | None = None,
        burst: int | None = None,
    ) -> dict[str, Any]:
        """A new key (admin); it is in `key`, this once. `daily_units` and `burst` bound this key alone."""
        limits = {"daily_units": daily_units, "burst": burst}
        body = {"tenant": tenant, "label": label, "admin": admin}
        body |= {name: value for name, value in limits.items() if value is not None}
        return self._ask(with_members("key"), "POST", "/v1/keys", json=body)

    def keys(self) -> list[dict[str, Any]]:
        """All keys (admin), without the keys themselves."""
        return self._ask(each(with_members("id", "tenant", "label", "hint", "revoked_at")), "GET", "/v1/keys")

    def revoke_key(self, key_id: str) -> None:
        """Close a key for ever (admin)."""
        self._delete(f"/v1/keys/{key_id}")

    def _call(self, method: str, path: str, **options: Any) -> httpx.Response:
        """The answer. What may be sent again safely is sent again while the service is away or a limit soon passes."""
        is_safe = method in ("GET", "DELETE") or "Idempotency-Key" in (options.get("headers") or {})
        for attempt in range(1, TRIES + 1):
            is_last = attempt == TRIES or not is_safe
            try:
                answer = self._http.request(method, path, **options)
            except NOT_SENDABLE as error:
                raise _not_sendable(error) from error
            except httpx.TransportError as error:
                if attempt == 1 and not is_last and isinstance(error, httpx.TimeoutException):
                    self._tell(self._silence())
                if is_last:
                    message = f"{self._http.base_url} does not answer ({type(error).__name__}). Is zimg running there?"
                    raise ZimgProblem(0, {}, message) from error
                time.sleep(min(LONGEST_PAUSE_SECONDS, 0.3 * 2**attempt))
                continue
            if not is_last and _is_worth_a_wait(answer):
                time.sleep(_pause(answer, attempt))
                continue
            if answer.is_error or answer.has_redirect_location:
                raise problem_of(answer)
            return answer
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _ask(self, make: Callable[[Any], Made], method: str, path: str, **options: Any) -> Made:
        return made_of(self._call(method, path, **options), make)

    def _silence(self) -> str:
        """That no answer came in time."""
        address, waited = str(self._http.base_url).rstrip("/"), self._http.timeout.read
        return f"{address} has not answered for {waited:g} s. Asking again, {TRIES - 1} times at most; Ctrl-C ends it."


def _tell_nobody(sentence: str) -> None:
    pass


def checked_key(key: str) -> str:
    """The key without blanks around it. Raises ZimgProblem for one that no header can hold; it does not say the key."""
    bare = key.strip()
    if not re.fullmatch(r"[ -~]*", bare):
        message = "This is no key: keys are ASCII letters, digits and signs on one line. Copy it again, without quotes."
        raise ZimgProblem(0, {"code": "invalid_api_key"}, message)
    return bare


def checked_address(url: str) -> str:
    """The address. Raises ZimgProblem for one that no request can go to."""
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        httpx.URL(url)
    except (ValueError, httpx.InvalidURL):
        is_good = False
    if not is_good:
        message = f"{url!r} is no web address: write http://HOST:PORT or https://…"
        raise ZimgProblem(0, {"code": "invalid_request"}, message)
    return url


def _not_sendable(error: Exception) -> ZimgProblem:
    return ZimgProblem(0, {"code": "invalid_request"}, f"This can not be sent: {error}")


def _is_worth_a_wait(answer: httpx.Response) -> bool:
    """The service is away, or a limit passes soon; a used-up day is told at once."""
    if answer.status_code != httpx.codes.TOO_MANY_REQUESTS:
        return answer.status_code in GONE_AWAY
    told = answer.headers.get("Retry-After", "")
    return told.isdigit() and int(told) <= SHORT_LIMIT_SECONDS


def _pause(answer: httpx.Response, attempt: int) -> float:
    told = answer.headers.get("Retry-After", "")
    return min(LONGEST_PAUSE_SECONDS, float(told) if told.isdigit() else 0.3 * 2**attempt)

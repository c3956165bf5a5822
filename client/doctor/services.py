"""What zimg stands on: the service itself, Redis, and S3. The libraries are used where they are installed."""

from __future__ import annotations

import importlib
import time
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import httpx

from .findings import Finding, Surroundings, failed, ok, skipped, warning

ANSWER_SECONDS = 5.0
#: S3 refuses requests that are signed 15 minutes off; browsers' sessions and webhooks notice earlier.
CLOCK_SECONDS = 60.0
OLDEST_REDIS = 7
_START = "Start it with `make run`, or name its address with --url or ZIMG_URL."
_NAMED = "Look at the address (--url or ZIMG_URL), and whether the service runs and may be reached from here."
_DURABLE = "With less than append-only, `appendfsync always` and `noeviction` a power cut loses accepted jobs."


def check_services(around: Surroundings) -> list[Finding]:
    """Findings about what is, or ought to be, running."""
    return [*_service(around), *_redis(around), _storage(around)]


def _service(around: Surroundings) -> list[Finding]:
    try:
        health = httpx.get(f"{around.url}/healthz", timeout=ANSWER_SECONDS)
        ready = httpx.get(f"{around.url}/readyz", timeout=ANSWER_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        told = f"{around.url} does not answer ({type(error).__name__})"
        return [failed("service", told, _NAMED) if around.is_named else warning("service", told, _START)]
    if health.status_code != httpx.codes.OK or "uptime_sec" not in health.text:
        return [failed("service", f"{around.url} answers, but is not zimg", "Another program has the port: " + _START)]
    found = [ok("service", f"{around.url} is up for {health.json()['uptime_sec']} s")]
    checks = ready.json().get("checks", {}) if ready.headers.get("Content-Type") == "application/json" else {}
    found += [_ready(name, state) for name, state in checks.items()]
    return [*found, _clock(health)]


_READY_FIXES = {
    "redis": "Look at Redis and at REDIS_URL; logs/redis.log in the data folder has the embedded one's words.",
    "storage": "Look at S3_ENDPOINT_URL, the bucket and the AWS_… keys; logs/storage.log has the embedded one's words.",
    "workers": "Look at logs/worker.log in the data folder: a worker that can't start says why in one sentence.",
}


def _ready(name: str, state: str) -> Finding:
    if state == "ok":
        return ok(f"service: {name}", "ok")
    return failed(f"service: {name}", state, _READY_FIXES.get(name, "Look into the service's logs."))


def _clock(answer: httpx.Response) -> Finding:
    try:
        off = abs(parsedate_to_datetime(answer.headers.get("Date", "")).timestamp() - time.time())
    except (TypeError, ValueError):
        return skipped("clock", "the service tells no time")
    if off > CLOCK_SECONDS:
        fix = "Set both clocks by NTP: S3 and webhook signatures are refused when clocks differ."
        return failed("clock", f"this machine and the service differ by {off:.0f} s", fix)
    return ok("clock", "agrees with the service's")


def _redis(around: Surroundings) -> list[Finding]:
    url = around.environ.get("REDIS_URL")
    if not url:
        return [skipped("redis", "REDIS_URL is not set: `make run` brings its own")]
    try:
        library: Any = importlib.import_module("redis")
    except ImportError:
        return [_reachable("redis", url, 6379)]
    fix = "Look at REDIS_URL (redis://:password@host:6379/0) and whether that server runs and may be reached from here."
    client = None
    try:
        client = library.Redis.from_url(url, socket_timeout=ANSWER_SECONDS, socket_connect_timeout=ANSWER_SECONDS)
        info = client.info()
    except (library.RedisError, OSError, ValueError) as error:
        return [failed("redis", f"does not answer as it should ({type(error).__name__})", fix)]
    finally:
        if client is not None:
            client.close()
    return [_redis_version(info), _redis_durable(info)]


def _redis_version(info: dict[str, Any]) -> Finding:
    version = str(info.get("redis_version", "0"))
    if int(version.partition(".")[0]) < OLDEST_REDIS:
        return failed("redis", f"version {version}", "Use Redis 7 or newer, or Valkey.")
    return ok("redis", f"version {version}")


def _redis_durable(info: dict[str, Any]) -> Finding:
    wrong = []
    if not info.get("aof_enabled"):
        wrong.append("appendonly is off")
    if info.get("maxmemory_policy", "noeviction") != "noeviction":
        wrong.append(f"maxmemory-policy is {info['maxmemory_policy']}")
    if wrong:
        return warning("redis durability", " and ".join(wrong), _DURABLE)
    return ok("redis durability", "append-only file, no eviction")


def _storage(around: Surroundings) -> Finding:
    url = around.environ.get("S3_ENDPOINT_URL")
    if not url:
        return skipped("storage", "S3_ENDPOINT_URL is not set: `make run` brings its own")
    bucket = around.environ.get("S3_BUCKET") or "zimg"
    try:
        boto3: Any = importlib.import_module("boto3")
        config: Any = importlib.import_module("botocore.config")
        errors: Any = importlib.import_module("botocore.exceptions")
    except ImportError:
        return _reachable("storage", url, 443)
    patience = config.Config(connect_timeout=ANSWER_SECONDS, read_timeout=ANSWER_SECONDS, retries={"max_attempts": 0})
    fix = f"Look at S3_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, and that the bucket {bucket} exists."
    try:
        boto3.client("s3", endpoint_url=url, config=patience).head_bucket(Bucket=bucket)
    except (errors.BotoCoreError, errors.ClientError, ValueError) as error:
        code = getattr(error, "response", {}).get("Error", {}).get("Code", "")
        return failed("storage", f"bucket {bucket}: {code or type(error).__name__}", fix)
    return ok("storage", f"bucket {bucket} answers")


def _reachable(name: str, url: str, port: int) -> Finding:
    """For a machine with the client alone: whether anybody listens."""
    import socket

    place = urlsplit(url)
    try:
        with socket.create_connection((place.hostname or "", place.port or port), timeout=ANSWER_SECONDS):
            return ok(name, f"somebody listens at {place.hostname}")
    except (OSError, ValueError) as error:
        return failed(name, f"nobody listens there ({type(error).__name__})", "Look at the address in the environment.")

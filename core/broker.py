"""Celery as zimg uses it: a queue of hints. A message says "job X may be claimed"; the job's state is in Redis.

So a lost message costs a claim deadline, a doubled one nothing, and no message is ever delayed or retried by Celery.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any
from urllib.parse import quote

from celery import Celery
from celery.exceptions import CeleryError
from kombu import Queue
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from core import broker_transport
from core.aside import put_aside
from core.job import Release
from core.logs import get_logger
from core.redis_client import connect, sentinel_address
from core.settings import Settings

QUEUE = "zimg"
TASK = "zimg.generate"
#: Threads beyond the engine's seats, so that encoding and upload never empty one.
SPARE_THREADS = 2

log = get_logger(__name__)


def queue_named(model: str) -> Queue:
    """The broker's queue of a further model; "" = of the default one.

    The anonymous exchange needs no binding in Redis, so nothing is lost when that is flushed.
    """
    name = f"{QUEUE}.{model}" if model else QUEUE
    return Queue(name, routing_key=name)


def make_celery(settings: Settings, model: str = "") -> Celery:
    """The Celery app of the api, scheduler and worker; makes no connection. A worker takes the queue of `model`."""
    own = queue_named(model)
    broker_transport.register()
    app = Celery("zimg", broker=broker_url(settings.redis_url), set_as_current=False)
    app.conf.update(
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_ignore_result=True,
        task_publish_retry=False,  # a release that was not published is released again
        task_create_missing_queues=False,
        task_default_queue=own.name,
        task_queues=[own],
        task_serializer="json",
        accept_content=["json"],
        worker_prefetch_multiplier=1,
        worker_pool="threads",
        worker_concurrency=settings.concurrency + SPARE_THREADS,
        worker_send_task_events=False,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,  # threads can not be stopped; leases decide
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_channel_error_retry=True,  # a full or read-only Redis must not end a worker
        broker_transport_options={
            "visibility_timeout": 900,  # a second net only: duplicates are dropped by claim
            "unacked_restore_interval": 30,
            "unacked_restore_throttle": 1,
            "socket_timeout": 5,
            "socket_connect_timeout": 3,
            "socket_keepalive": True,
            "health_check_interval": 10,
            "max_connections": 32,
            "global_keyprefix": "celery:",
            broker_transport.ON_UNREADABLE: partial(put_aside, connect(settings.redis_url, connections=2), "message"),
            **_sentinel_options(settings.redis_url),
        },
        **_sentinel_tls(settings.redis_url),
    )
    return app


def broker_url(redis_url: str) -> str:
    """REDIS_URL as kombu wants it: a URL for each sentinel, and certificates checked unless it says otherwise."""
    address = sentinel_address(redis_url)
    if address is not None:
        user, password = quote(address.username or "", safe=""), quote(address.password or "", safe="")
        who = f"{user}:{password}@" if user or password else ""
        return ";".join(f"sentinel://{who}{host}:{port}/{address.db}" for host, port in address.hosts)
    if redis_url.startswith("rediss://") and "ssl_cert_reqs=" not in redis_url:
        return f"{redis_url}{'&' if '?' in redis_url else '?'}ssl_cert_reqs=required"
    return redis_url


def _sentinel_options(redis_url: str) -> dict[str, Any]:
    address = sentinel_address(redis_url)
    if address is None:
        return {}
    options: dict[str, Any] = {"master_name": address.master_name}
    if address.tls is not None:  # to the sentinels; `broker_use_ssl` is for the servers that they name
        options["sentinel_kwargs"] = {"ssl": True, "socket_timeout": 1.0, **address.tls}
    return options


def _sentinel_tls(redis_url: str) -> dict[str, Any]:
    address = sentinel_address(redis_url)
    return {"broker_use_ssl": dict(address.tls)} if address is not None and address.tls is not None else {}


def publish(app: Celery, releases: Sequence[Release]) -> int:
    """Send one message for each release; answers how many were sent.

    Errors are logged and forgotten: a release that nobody claims is queued again by the reaper.
    """
    if not releases:
        return 0
    try:
        with app.producer_or_acquire() as producer, producer.batch():
            for release in releases:
                _send(app, producer, release)
    except (KombuError, CeleryError, RedisError, OSError) as error:
        log.warning("publish failed", action="publish", jobs=len(releases), error=type(error).__name__)
        return 0
    return len(releases)


def _send(app: Celery, producer: Any, release: Release) -> None:
    queue: Any = queue_named(release.queue)  # a Queue is taken too, whatever the stubs say
    app.send_task(TASK, args=(release.job_id, release.epoch), queue=queue, producer=producer, ignore_result=True)

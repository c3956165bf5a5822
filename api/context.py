"""What a request handler may reach: the parts of this process, the tenant of the request, the public address."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import cast

import redis
from flask import current_app, g, request

from api.content_rules import ContentRules
from api.failed_keys import FailedKeys
from api.pacing import TrustedProxies
from api.thumbnails import Thumbnails
from api.waiting import LongWaits
from core.batch_store import BatchStore
from core.events import EventHub, JobEvents
from core.image_store import ImageStore
from core.job_store import JobStore
from core.model_profile import ModelProfile
from core.settings import Settings
from core.webhook_store import WebhookStore
from scheduler.invites import Invites
from scheduler.submission import Submission
from scheduler.tenants import Tenant, Tenants

#: A longer one is no host that anybody has; a job does not keep it.
BASE_URL_CHARACTERS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The parts of one api process, built once in wsgi.py; handlers reach them with `services()`."""

    settings: Settings
    profile: ModelProfile  # of the default model
    further: tuple[ModelProfile, ...] = ()  # of the other models of this service
    redis: redis.Redis
    jobs: JobStore
    batches: BatchStore
    events: JobEvents
    hub: EventHub
    images: ImageStore
    submission: Submission
    tenants: Tenants
    invites: Invites
    webhooks: WebhookStore
    rules: ContentRules
    long_waits: LongWaits
    proxies: TrustedProxies
    failed_keys: FailedKeys = field(default_factory=FailedKeys)
    thumbnails: Thumbnails = field(default_factory=Thumbnails)
    started_monotonic: float = field(default_factory=time.monotonic)
    closing: threading.Event = field(default_factory=threading.Event)  # the process is asked to stop: end long waits

    @property
    def profiles(self) -> tuple[ModelProfile, ...]:
        """Of every model of this service, the default one first."""
        return (self.profile, *self.further)

    def profile_named(self, model: str) -> ModelProfile:
        """The profile of the model that a job was made for; the default one for a model that is served no more."""
        return next((one for one in self.further if one.id == model), self.profile)

    def close(self) -> None:
        """End every long wait: streams resume and retries join their jobs at another process."""
        self.closing.set()
        self.hub.close()


def services() -> Services:
    """This process's parts."""
    return cast(Services, current_app.extensions["zimg"])


def tenant() -> Tenant:
    """Whose request this is; set by auth.py before any handler of /v1 runs."""
    return cast(Tenant, g.tenant)


def base_url_of_request() -> str:
    """What a job keeps for the links in its events: the request's address, "" where the service's own says it."""
    settings, asked = services().settings, request.host_url.rstrip("/")
    if settings.public_base_url or asked == settings.own_url or len(asked) > BASE_URL_CHARACTERS:
        return ""
    return asked


def base_url() -> str:
    """The address under which the caller reaches us, without a slash at the end."""
    configured = services().settings.public_base_url
    return (configured or request.host_url).rstrip("/")

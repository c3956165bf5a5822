"""The parts of one api process, built from its settings."""

from __future__ import annotations

from api.content_rules import ContentRules
from api.context import Services
from api.pacing import TrustedProxies
from api.waiting import LongWaits
from core.batch_store import BatchStore
from core.events import EventHub, JobEvents
from core.image_store import BRIEF, ImageStore
from core.job_store import JobStore
from core.model_profile import further_profiles, read_profile
from core.redis_client import connect
from core.settings import Settings
from core.webhook_store import WebhookStore
from scheduler.invites import Invites
from scheduler.reuse import Reuse
from scheduler.submission import Submission
from scheduler.tenants import Tenants

#: Beside one for each thread: the subscription to events, and probes.
SPARE_CONNECTIONS = 16


def build_services(
    settings: Settings, *, images: ImageStore | None = None, brief_images: ImageStore | None = None
) -> Services:
    """The parts of one api process. Connects to nothing yet: Redis and storage may come up later.

    Who builds many for one bucket may give its stores: making them is half of the work.
    """
    client = connect(
        settings.redis_url,
        timeout_seconds=settings.api_redis_timeout_seconds,
        connections=settings.api_threads + SPARE_CONNECTIONS,
    )
    profile = read_profile(settings.model)
    store = JobStore(client, settings)
    return Services(
        settings=settings,
        profile=profile,
        further=further_profiles(settings),
        redis=client,
        jobs=store,
        batches=BatchStore(client, settings),
        events=JobEvents(client),
        hub=EventHub(client),
        images=images or ImageStore(settings),
        submission=Submission(store, settings, profile, Reuse(client, brief_images or ImageStore(settings, BRIEF))),
        tenants=Tenants(client, settings),
        invites=Invites(client),
        proxies=TrustedProxies(settings.trusted_proxies),
        webhooks=WebhookStore(client),
        rules=ContentRules(settings.block_list),
        long_waits=LongWaits(settings.long_waits),
    )

"""gunicorn's door: builds the parts of this process from the environment."""

from __future__ import annotations

from core.image_store import ImageStore
from flask_openapi.openapi import OpenAPI

from api.app import create_app
from api.context import Services
from api.first_key import offer_first_key
from api.waiting import LongWaits
from core.batch_store import BatchStore
from core.events import EventHub, JobEvents
from core.job_store import JobStore
from core.logs import configure_logging
from core.model_profile import read_profile
from core.redis_client import connect
from core.settings import Settings
from scheduler.submission import Submission
from scheduler.tenants import Tenants


def build_services(settings: Settings) -> Services:
    """The parts of one api process. Connects to nothing yet: Redis and storage may come up later."""
    client, profile = connect(settings.redis_url), read_profile(settings.model)
    store = JobStore(client, settings)
    return Services(
        settings=settings,
        profile=profile,
        redis=client,
        jobs=store,
        batches=BatchStore(client, settings),
        events=JobEvents(client),
        hub=EventHub(client),
        images=ImageStore(settings),
        submission=Submission(store, settings, profile),
        tenants=Tenants(client, settings),
        long_waits=LongWaits(settings.long_waits),
    )


def build_app() -> OpenAPI:
    """The application of this process, from the environment."""
    settings = Settings.from_env()
    configure_logging(settings)
    parts = build_services(settings)
    offer_first_key(parts)
    return create_app(parts)


app = build_app()

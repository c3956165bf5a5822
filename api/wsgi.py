"""gunicorn's door: the application of this process, from the environment."""

from __future__ import annotations

from flask_openapi.openapi import OpenAPI

from api.app import create_app
from api.first_key import offer_first_key
from api.parts import build_services
from api.public_address import tell_if_missing
from core.logs import configure_logging
from core.settings import Settings


def build_app() -> OpenAPI:
    """The application of this process. Connects to nothing yet: Redis and storage may come up later."""
    settings = Settings.from_env()
    configure_logging(settings)
    parts = build_services(settings)
    offer_first_key(parts)
    tell_if_missing(settings)
    return create_app(parts)


app = build_app()

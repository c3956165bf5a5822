"""The address by which others know the service, where its own start can not tell."""

from __future__ import annotations

import structlog

from core.settings import Settings

log = structlog.get_logger(__name__)


def tell_if_missing(settings: Settings) -> None:
    """Warn where other machines reach this service and nobody said by what address."""
    if settings.is_loopback or settings.public_base_url:
        return
    log.warning(
        "ZIMG_PUBLIC_BASE_URL is not set: links, in webhook events too, name the address by which each request came, "
        "whether or not a receiver reaches it",
        action="start",
    )

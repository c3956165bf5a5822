"""The page in Chromium against a live api; the worker is played."""

from collections.abc import Iterator

import pytest

from api.context import Services
from tests.fixtures.redis import RedisServer
from tests.integration.api.conftest import (
    MODEL,
    LiveApi,
    Settings,
    live,
    live_api,
    live_process,
    parts,
    settings,
    storage_environment,
    worker,
)

__all__ = ["live", "live_process", "parts", "settings", "storage_environment", "worker"]


@pytest.fixture(scope="session")
def inviting_process(
    valkey_server: RedisServer, storage_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveApi]:
    """An api that asks for keys, has an admin key, and lets people sign up with invites."""
    made = Settings(model=MODEL, redis_url=valkey_server.url, s3_endpoint_url=storage_environment["S3_ENDPOINT_URL"])
    folder = tmp_path_factory.mktemp("inviting")
    more = {"ZIMG_HOST": "0.0.0.0", "ZIMG_ADMIN_KEY": "the-operators-own-key", "ZIMG_SIGN_UP": "invite"}
    with live_api(made, folder, **more) as api:
        yield api


@pytest.fixture
def inviting_api(inviting_process: LiveApi, parts: Services) -> LiveApi:
    """The same on an empty Redis."""
    return inviting_process

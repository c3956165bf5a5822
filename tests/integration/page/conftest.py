"""The page in Chromium against a live api; the worker is played."""

import json
from collections.abc import Iterator
from dataclasses import asdict

import pytest
from playwright.sync_api import Page, expect

from api.context import Services
from core.model_profile import ModelProfile
from tests.fixtures.browser import Complaints
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
    stores,
    worker,
)

__all__ = ["live", "live_process", "parts", "settings", "storage_environment", "stores", "worker"]


def sign_in(page, key):
    """Through the door that stands before a page without a session."""
    page.fill("#key", key)
    page.press("#key", "Enter")
    expect(page.locator("#sign-in")).to_be_hidden()


def ask(page: Page, prompt: str) -> None:
    """What a person does: type, and press Enter."""
    page.fill("#prompt", prompt)
    page.press("#prompt", "Enter")


#: The second model of the inviting api.
PAINTER = ModelProfile("painter", "r2", square=(512, 512), portrait=(384, 512), landscape=(512, 384))


@pytest.fixture(scope="session")
def inviting_process(
    valkey_server: RedisServer, storage_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveApi]:
    """An api that asks for keys, has an admin key, serves two models, and lets people sign up with invites."""
    made = Settings(model=MODEL, redis_url=valkey_server.url, s3_endpoint_url=storage_environment["S3_ENDPOINT_URL"])
    folder = tmp_path_factory.mktemp("inviting")
    more = {"ZIMG_HOST": "0.0.0.0", "ZIMG_ADMIN_KEY": "the-operators-own-key", "ZIMG_SIGN_UP": "invite"}
    painter = folder / "painter"
    painter.mkdir()
    (painter / "zimg.json").write_text(json.dumps(asdict(PAINTER)))
    with live_api(made, folder, ZIMG_MODELS=str(painter), **more) as api:
        yield api


@pytest.fixture
def inviting_api(inviting_process: LiveApi, parts: Services) -> LiveApi:
    """The same on an empty Redis."""
    return inviting_process


@pytest.fixture
def home(page: Page, live: LiveApi, complaints: Complaints) -> Iterator[Page]:
    """The open page; nothing may have been complained about at the end of the test."""
    page.goto(live.url)
    expect(page.locator("#prompt")).to_be_focused()
    yield page
    assert complaints.lines == []

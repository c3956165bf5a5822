"""The card of what waits to be sent names one time, the one that runs down."""

import re

import pytest
from playwright.sync_api import expect

from scheduler.traffic import Flow, Kind, Traffic
from tests.integration.api.conftest import use_up
from tests.integration.page.conftest import ask

UNSENT = ".card[data-status=unsent] .waiting"
#: A number with a word of time behind it.
TIMES = {"en": r"\d+\s?(?:seconds?|minutes?|hours?|s|min|h)\b", "zh": r"\d+\s?(?:秒|分钟|小时)"}


def drain(parts):
    Traffic(parts.jobs).set(Kind.TENANT, "local", Flow.DRAINING)


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("close", [drain, use_up])
def test_a_refusal_that_ends_by_itself_shows_one_time(home, parts, worker, complaints, close, language):
    if language == "zh":
        home.get_by_role("button", name="中文").click()
    close(parts)
    ask(home, "a mug")

    card = home.locator(UNSENT)
    expect(card).to_contain_text("自动提交" if language == "zh" else "Sends by itself in")
    text = card.locator("> span").inner_text()
    assert len(re.findall(TIMES[language], text)) == 1, text
    assert re.match(r"\S.*\S · \S", text), text  # the reason stays
    complaints.lines = [line for line in complaints.lines if not re.search(r"status of (429|503)", line)]

"""A card that counts down to its own sending names no other time beside it, and speaks one language."""

import pytest
from playwright.sync_api import expect

from scheduler.traffic import Flow, Kind, Traffic
from tests.integration.page.conftest import ask

UNSENT = ".card[data-status=unsent]"


@pytest.mark.parametrize(
    ("locale", "kind", "name", "said", "other"),
    [
        ("en-US", Kind.LANE, "interactive", "The interactive lane takes no new work now; try again later · ", "Wait "),
        ("zh-CN", Kind.LANE, "interactive", "interactive 通道目前不接收新任务，请稍后重试 · ", "请等待"),
        ("zh-CN", Kind.TENANT, "local", "该账户目前不接收新任务，请稍后重试 · ", "请等待"),
    ],
)  # fmt: skip
def test_what_the_service_lets_run_empty_is_told_with_one_time(browser, live, parts, locale, kind, name, said, other):
    Traffic(parts.jobs).set(kind, name, Flow.DRAINING)
    with browser.new_context(locale=locale) as context:
        page = context.new_page()
        page.goto(live.url)
        ask(page, "mug")

        expect(page.locator(UNSENT)).to_contain_text(said)

        assert other not in page.locator(UNSENT).inner_text()

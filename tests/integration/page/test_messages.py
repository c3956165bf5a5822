"""What is said under the prompt: in the page's language, and no longer than it is true."""

import json

from playwright.sync_api import expect

from tests.integration.page.conftest import ask


def test_what_is_wrong_with_a_prompt_is_said_in_either_language_and_until_one_types(home):
    message = home.locator("#composer-error")
    ask(home, "")
    expect(message).to_have_text("Write what you want to see.")
    home.locator("#language").click()
    expect(message).to_have_text("请写下想看到的内容。")
    home.type("#prompt", "a")
    expect(message).to_have_text("")


def test_an_example_that_is_taken_ends_the_message_too(home):
    ask(home, "")
    expect(home.locator("#composer-error")).not_to_have_text("")
    home.locator("#examples button").first.click()
    expect(home.locator("#composer-error")).to_have_text("")


def test_a_refusal_of_the_service_is_said_until_one_types(home, parts, complaints):
    message = home.locator("#composer-error")
    ask(home, "a\u0001b")
    expect(message).to_contain_text("control character")
    home.locator("#language").click()
    expect(message).to_contain_text("control character")
    home.type("#prompt", "a")
    expect(message).to_have_text("")
    complaints.lines = [line for line in complaints.lines if "status of 400" not in line]


def test_what_the_service_said_when_the_page_began_ends_when_it_has_begun(page, live, parts):
    away = {"code": "redis_unavailable", "detail": "The service is busy with itself."}
    answer = {"status": 503, "content_type": "application/problem+json", "body": json.dumps(away)}
    page.route("**/v1/session", lambda route: route.fulfill(**answer), times=1)
    page.clock.install()
    page.goto(live.url)
    expect(page.locator("#composer-error")).to_have_text("The service is busy with itself.")

    page.clock.fast_forward(3000)
    expect(page.locator("#composer-error")).to_have_text("")

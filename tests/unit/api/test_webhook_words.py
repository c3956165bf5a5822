"""Why an endpoint is off, and why an event did not arrive: kept in English, told in Chinese too."""

import re

import pytest

from api.translation import in_chinese
from api.webhook_words import OFF_BY_OWNER, WORDS
from scheduler.outbound import REASONS, reason_of
from scheduler.webhook_calls import BLOCKED, NOT_TRIED, OFF_SINCE_GONE

CHINESE = re.compile("[\u4e00-\u9fff]")
SAID = [OFF_BY_OWNER, OFF_SINCE_GONE, NOT_TRIED, reason_of(Exception()), *(words for _, words in REASONS)]


@pytest.mark.parametrize("words", SAID)
def test_everything_that_is_said_of_an_endpoint_and_its_attempts_is_told_in_chinese(words):
    assert CHINESE.search(in_chinese(words) or "")


def test_nothing_stands_in_the_table_that_nobody_says():
    assert {english for english, _ in WORDS} == {*SAID, f"{BLOCKED}: {{name}} leads to an internal address"}


def test_an_address_that_may_not_be_reached_is_named():
    assert in_chinese(f"{BLOCKED}: 10.0.0.1 leads to an internal address") == "不允许：10.0.0.1 指向内部地址"

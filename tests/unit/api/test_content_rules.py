"""The operator's block list."""

import os

import pytest

from api.content_rules import ContentRules
from core.errors import ConfigurationError, InvalidRequest
from tests.unit.api.refusals import is_refused


def test_a_refusal_names_the_prompt_and_not_the_rule(rules_of):
    rules, _ = rules_of("secretword\n")

    with pytest.raises(InvalidRequest) as refused:
        rules.check("a secretword here")

    assert (refused.value.code, refused.value.field) == ("content_policy_violation", "prompt")
    assert "secretword" not in str(refused.value)


@pytest.mark.parametrize(
    "prompt",
    ["a secretword here", "SecretWord", "ｓｅｃｒｅｔｗｏｒｄ", "x, secretword!", "画一个违禁品吧", "b0mb", "B00MB"],
)
def test_words_phrases_and_expressions_are_refused_in_any_writing(rules_of, prompt):
    rules, _ = rules_of("# words\nsecretword  # why\n违禁品\n/b0+mb/\n")

    assert is_refused(rules, prompt)


@pytest.mark.parametrize("prompt", ["secretwords", "a red mug", "品违禁", "bmb"])
def test_others_are_not(rules_of, prompt):
    rules, _ = rules_of("secretword\n违禁品\n/b0+mb/\n")

    assert not is_refused(rules, prompt)


@pytest.mark.parametrize(
    "prompt",
    [
        "a secret\u200bword here",  # zero-width blank
        "s\u200de\u2060c\ufeffr\u00adetword",  # joiner, word joiner, byte order mark, soft hyphen
        "secret\u3164word",  # Hangul filler
        "s\u0336e\u0336cretword",  # struck through
        "SECRET\ufe0fWORD",
        "ＳＥＣＲＥＴ\u200bｗｏｒｄ",
        "画一个 secretword 吧",
        "画一个secretword吧",
        "画一个违 禁 品吧",
        "违\u3000禁\t品",
        "违\n禁\u200b品",
        "违-禁_品",
        "违·禁*品",
        "a very\n  bad   phrase",
        "Ｖｅｒｙ\u00a0bad phrase",
        "AK 步枪",
        "ak步 枪",
        "폭탄을 그려",
    ],
)
def test_a_rule_is_not_passed_by_what_nobody_sees_nor_by_blanks_between_chinese_characters(rules_of, prompt):
    rules, _ = rules_of("secretword\n违禁品\nVery bad Phrase\nAK步枪\n폭탄\n")

    assert is_refused(rules, prompt)


@pytest.mark.parametrize(
    "rule",
    [
        "secret\u200bword",
        "ＳｅｃｒｅｔＷｏｒｄ",
        "  SECRETWORD  ",
        "违 禁 品",
        "违\u200b禁品",
        "/违禁品/",
        "/SECRETWORD/",
    ],
)
def test_a_rule_may_be_written_in_any_of_these_ways_itself(rules_of, rule):
    rules, _ = rules_of(rule + "\n")

    assert is_refused(rules, "违禁品" if "违" in rule else "a secretword")


@pytest.mark.parametrize(
    "prompt",
    [
        "as sassy grass",  # "ass" within words, and across their borders
        "a class of bass",
        "has sun",
        "an analysis",
        "very bad, phrase",
        "very badphrase",
        "pass word",
        "两个 违章 禁区 品牌",  # three characters of the rule, but not one after another
        "违。禁品",  # a sentence ends between
        "the café",
        "барсук",
    ],
)
def test_words_that_only_hold_a_rules_letters_are_drawn(rules_of, prompt):
    rules, _ = rules_of("ass\nanal\nvery bad phrase\npassword\n违禁品\ncaf\nбар\n")

    assert not is_refused(rules, prompt)


def test_an_expression_sees_the_prompt_with_its_blanks_and_without(rules_of):
    rules, _ = rules_of("/违 禁/\n/枪支/\n")

    assert is_refused(rules, "违 禁")
    assert is_refused(rules, "枪 支")
    assert not is_refused(rules, "违禁")


def test_a_changed_file_holds_at_once_and_a_broken_one_changes_nothing(rules_of):
    rules, path = rules_of("secretword\n")
    before = is_refused(rules, "another")
    path.write_text("secretword\nanother\n")
    after = is_refused(rules, "another")
    path.write_text("/(/\n")
    os.utime(path, ns=(1, 1))

    assert (before, after, is_refused(rules, "another")) == (False, True, True)


def test_no_list_allows_everything_and_a_missing_one_stops_the_start():
    ContentRules("").check("anything")
    with pytest.raises(ConfigurationError):
        ContentRules("/nowhere/blocked.txt")

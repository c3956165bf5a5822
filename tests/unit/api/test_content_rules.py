"""The operator's block list."""

import os

import pytest

from api import content_rules
from api.content_rules import ContentRules
from core.errors import ConfigurationError, InvalidRequest


@pytest.fixture
def rules_of(tmp_path, monkeypatch):
    """Rules from a text, looked at anew with each check."""
    monkeypatch.setattr(content_rules, "LOOK_SECONDS", 0.0)
    path = tmp_path / "blocked.txt"

    def make(text):
        path.write_text(text, encoding="utf-8")
        return ContentRules(str(path)), path

    return make


def is_refused(rules, prompt):
    try:
        rules.check(prompt)
    except InvalidRequest:
        return True
    return False


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

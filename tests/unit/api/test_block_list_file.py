"""A block list is read as it was meant, or not at all: never as no rules, and never as one that forbids everything."""

import os

import pytest
import structlog

from core.errors import ConfigurationError
from tests.unit.api.refusals import is_refused


@pytest.mark.parametrize("begin", ["# our list\n", "", "\n"])
def test_a_byte_order_mark_is_no_rule_and_changes_none(rules_of, begin):
    rules, _ = rules_of(b"\xef\xbb\xbf" + f"{begin}/gun.*/\nsecretword\n".encode())

    assert is_refused(rules, "a gun")
    assert is_refused(rules, "a secretword")
    assert not is_refused(rules, "a red mug")


@pytest.mark.parametrize("line", ["\u200b", "\ufeff", "\u0301", "\u3164", " \u200d ", "\u200b# a comment"])
def test_a_line_of_what_nobody_sees_is_no_rule(rules_of, line):
    rules, _ = rules_of(f"{line}\ngun\n")

    assert not is_refused(rules, "a red mug")
    assert is_refused(rules, "a gun")


@pytest.mark.parametrize("encoding", ["gb18030", "utf-16", "utf-16-le"])
def test_a_file_in_another_encoding_stops_the_start_and_says_what_to_do(rules_of, encoding):
    with pytest.raises(ConfigurationError, match="Save it as UTF-8") as refused:
        rules_of("一把枪\n".encode(encoding))

    assert "blocked.txt" in str(refused.value)


def test_gb18030_that_happens_to_be_utf_8_is_told_too_and_a_mark_says_that_it_is_none(rules_of):
    with pytest.raises(ConfigurationError, match="Save it as UTF-8 with BOM"):
        rules_of("gb 枪\n".encode("gb18030"))  # C7 B9 is ǹ

    rules, _ = rules_of(b"\xef\xbb\xbf" + "ǹ\n".encode())
    assert is_refused(rules, "a ǹ")


@pytest.mark.parametrize("word", ["бомба", "σφαίρα", "größe", "ưỡng", "ș", "żółw", "枪", "nǐ hǎo"])
def test_words_of_other_scripts_need_no_mark(rules_of, word):
    rules, _ = rules_of(f"{word}\n")

    assert is_refused(rules, word)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("/(/", "missing )"),
        ("/x*/", "every prompt"),
        ("/gun/ or so", "begins with /"),
        ("/gun", "begins with /"),
        ("//", "begins with /"),
    ],
)
def test_a_bad_rule_stops_the_start_and_is_named_by_its_line(rules_of, rule, said):
    with pytest.raises(ConfigurationError, match=r"line 3\b") as refused:
        rules_of(f"# words\nsecretword\n{rule}\n")

    assert said in str(refused.value)


@pytest.mark.parametrize("data", [b"/(/\n", "一把枪\n".encode("gb18030")])
def test_a_bad_change_leaves_the_last_good_rules_and_is_told_once(rules_of, data):
    rules, path = rules_of("secretword\n")
    path.write_bytes(data)
    os.utime(path, ns=(1, 1))

    with structlog.testing.capture_logs() as lines:
        seen = [is_refused(rules, prompt) for prompt in ("a secretword", "a mug", "a secretword")]

    assert seen == [True, False, True]
    assert [(line["log_level"], line["action"]) for line in lines] == [("error", "content_rules")]
    path.write_text("another\n")
    assert is_refused(rules, "another")
    assert not is_refused(rules, "a secretword")


def test_a_list_that_was_deleted_leaves_the_last_good_rules_and_is_told_once(rules_of):
    rules, path = rules_of("secretword\n")
    path.unlink()

    with structlog.testing.capture_logs() as lines:
        assert [is_refused(rules, "a secretword") for _ in range(3)] == [True] * 3

    assert [line["log_level"] for line in lines] == ["error"]


@pytest.mark.parametrize("line", ["/gun/   # why", "/gun/ #", "/gun/\t# see /etc/rules/"])
def test_a_comment_may_stand_after_an_expression(rules_of, line):
    rules, _ = rules_of(f"{line}\n")

    assert is_refused(rules, "a gun")


def test_a_number_sign_within_an_expression_is_a_part_of_it(rules_of):
    rules, _ = rules_of("/gun # \\d/\n/a\\/b/\n")

    assert is_refused(rules, "Gun # 7")
    assert not is_refused(rules, "a gun")
    assert is_refused(rules, "a/b")


@pytest.mark.parametrize(
    ("rule", "prompt"),
    [
        ("/ＧＵＮ/", "a gun"),
        ("/ＧＵＮs?/", "ｇｕｎｓ"),
        ("/straße/", "eine Straße"),
        ("/straße/", "eine STRASSE"),
        ("/^stra(ß|x)e$/", "Straße"),
        ("/caf[é]/", "a CAFÉ"),
        ("/cafe\u0301/", "a café"),
        ("/[ａ-ｃ]{3}/", "abc"),
        ("/\\uff27\\uff35\\uff2e/", "gun"),
        ("/违\u200b禁/", "违禁"),
        ("/ｶﾞﾝ/", "ガン"),
        ("/b\u3000c/", "b c"),
        ("/（x）/", "(x)"),
        ("/\\bgun\\b/", "a g\u200bun"),
        ("/БОМБА/", "бомба"),
        ("/x{2}ß+/", "xxßß"),
    ],
)
def test_an_expression_is_read_in_the_writing_that_prompts_are(rules_of, rule, prompt):
    rules, _ = rules_of(f"{rule}\n")

    assert is_refused(rules, prompt)


@pytest.mark.parametrize(
    ("rule", "prompt"),
    [("/\\Bgun/", "gun"), ("/\\Sx/", "x"), ("/[ß]/", "ss"), ("/a．b/", "axb"), ("/＊/", "mug"), ("/[^é]x/", "éx")],
)
def test_an_expression_means_no_more_than_it_did(rules_of, rule, prompt):
    rules, _ = rules_of(f"{rule}\n")

    assert not is_refused(rules, prompt)


@pytest.mark.parametrize("prompt", ["naked_woman", "NAKED1", "1naked", "_naked_", "naked2girls"])
def test_digits_and_underscores_beside_a_word_do_not_hide_it(rules_of, prompt):
    rules, _ = rules_of("naked\n")

    assert is_refused(rules, prompt)


@pytest.mark.parametrize("prompt", ["nakedness", "unnaked", "1690", "ak470", "169er"])
def test_longer_words_and_numbers_are_still_others(rules_of, prompt):
    rules, _ = rules_of("naked\n69\nak47\n")

    assert not is_refused(rules, prompt)

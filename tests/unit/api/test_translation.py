"""What errors say in Chinese: the same facts as in English, whichever part of the service raised them."""

import ast
import inspect
import re
import string
from pathlib import Path

import pytest

from api.advice import ADVICE
from api.parser_words import OF_PYDANTIC
from api.problems import PROBLEMS
from api.sentences import SENTENCES
from api.translation import NUMBERS, advice_for, in_chinese, patience
from core import errors

ROOT = Path(__file__).parents[3]
ROWS = [(code, english, chinese) for code, pairs in SENTENCES.items() for english, chinese in pairs]

#: Which argument holds the sentence, where it is not the first.
PLACE = {"PydanticCustomError": 1, "FieldError": 2}
OURS = {
    *(name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, errors.ZimgError)),
    *("PydanticCustomError", "FieldError", "_wrong", "GenerationFailed", "TooLarge", "UnsupportedMediaType"),
    *("Conflict", "NoKey"),
}
#: Never an answer: they stop a start, or end a worker's own doing.
NOT_TOLD = {"ConfigurationError", "LeaseLost", "JobCanceled"}


def facts_of(template):
    return sorted(fact for _, fact, _, _ in string.Formatter().parse(template) if fact is not None)


def sentence_of(node, variables):
    """The sentence of an argument, its facts as {}; None for one that is handed on from elsewhere."""
    if isinstance(node, ast.Name):
        node = variables.get(node.id)
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "\0" for part in node.values)
    return None


def sentences_raised():
    """(where, sentence) of every error of ours that is made in the source."""
    for path in sorted(path for part in ("api", "scheduler", "core", "worker") for path in (ROOT / part).rglob("*.py")):
        for function in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)):
            made = [node for node in ast.walk(function) if isinstance(node, ast.Assign)]
            variables = {target.id: one.value for one in made for target in one.targets if isinstance(target, ast.Name)}
            for call in (node for node in ast.walk(function) if isinstance(node, ast.Call) and node.args):
                name = getattr(call.func, "id", "")
                sentence = sentence_of(call.args[PLACE.get(name, 0)], variables) if name in OURS - NOT_TOLD else None
                if sentence and name == "PydanticCustomError":
                    sentence = re.sub(r"\{\w+\}", "\0", sentence)
                if sentence:
                    yield f"{path.relative_to(ROOT)}:{call.lineno}", sentence


def filled(template):
    """The sentence with facts that can be told apart."""
    facts = {
        fact: str(7000 + place) if fact in NUMBERS else f"<{fact}>" for place, fact in enumerate(facts_of(template))
    }
    return template.format(**facts), facts


def test_each_code_of_a_sentence_is_a_row_of_the_table_of_problems_and_each_problem_has_a_sentence():
    assert set(SENTENCES) == set(PROBLEMS)


@pytest.mark.parametrize(("code", "english", "chinese"), ROWS)
def test_both_languages_have_the_same_facts(code, english, chinese):
    assert facts_of(english) == facts_of(chinese)
    assert english.isascii()
    assert any("\u4e00" <= letter <= "\u9fff" for letter in chinese)


@pytest.mark.parametrize(("code", "english", "chinese"), ROWS)
def test_a_sentence_is_found_again_by_its_own_row_with_its_facts(code, english, chinese):
    told, facts = filled(english)

    assert in_chinese(told) == chinese.format(**facts)


@pytest.mark.parametrize(("code", "english", "chinese"), ROWS)
def test_figures_written_into_a_sentence_stand_in_both(code, english, chinese):
    assert re.findall(r"\d[\d:x]*", english.replace("two minutes", "")) == re.findall(r"\d[\d:x]*", chinese)


def test_every_sentence_that_the_source_raises_has_its_row():
    raised = list(sentences_raised())
    missing = [(where, sentence) for where, sentence in raised if in_chinese(sentence.replace("\0", "7")) is None]

    assert len(raised) > 80  # the reader of the source sees them
    assert missing == []


def test_every_sentence_of_a_failed_job_that_a_script_writes_has_its_row():
    written = [
        message
        for path in (ROOT / "core/lua").glob("*.lua")
        for message in re.findall(r'"message":"([^"]+)"', path.read_text())
    ]

    assert len(written) == 2
    assert [message for message in written if in_chinese(message) is None] == []


@pytest.mark.parametrize("template", sorted(set(OF_PYDANTIC.values())))
def test_every_form_of_a_wrong_member_has_its_row(template):
    told = template.format_map({fact: "name" if fact == "name" else "17" for fact in facts_of(template)})

    assert "17" in (in_chinese(told) or "") or "17" not in told
    assert in_chinese(told) is not None


def test_a_sentence_within_a_sentence_and_a_choice_are_translated_too():
    told = in_chinese("row 3: prompt has 4001 characters; at most 4000 are read")

    assert told == "第 3 行：prompt 有 4001 个字符，最多读取 4000 个"
    assert in_chinese("priority must be 'low', 'normal' or 'high'") == "priority 须为 'low', 'normal' 或 'high'"


def test_what_no_row_was_made_for_is_not_guessed():
    assert in_chinese("Something else entirely.") is None
    assert in_chinese("size has many pixels; at most 5 are drawn") is None
    assert in_chinese("This account was stopped: " + "x" * 3_000) is None


@pytest.mark.parametrize(
    ("seconds", "english", "chinese"),
    [
        (0.2, "Wait 1 second.", "请等待 1 秒。"),
        (90, "Wait 90 seconds.", "请等待 90 秒。"),
        (130, "Wait 3 minutes.", "请等待 3 分钟。"),
        (36_000, "Wait 10 hours.", "请等待 10 小时。"),
    ],
)
def test_the_time_to_wait_is_told_in_both_languages_never_too_short(seconds, english, chinese):
    assert patience(seconds, is_chinese=False) == english
    assert patience(seconds, is_chinese=True) == chinese


#: How a sentence says by itself what to do: it commands, or names the bounds within which it would be well.
SAYS_WHAT_TO_DO = re.compile(
    r"\b(must|needs?|choose|[Ss]end|remove first|remove one|Make|[Pp]oll|save it|cancel it|ask for|look|tell|wait"
    r"|try again|at least|at most|below|above|takes? only|may hold|/docs lists|they return at)\b|/docs"
)


@pytest.mark.parametrize(("code", "english", "chinese"), ROWS)
def test_every_error_says_what_to_do(code, english, chinese):
    told = advice_for(filled(english)[0])

    assert told == ADVICE.get(english, ("", ""))
    assert told[0] or SAYS_WHAT_TO_DO.search(english)


def test_each_advice_is_of_a_sentence_of_the_table_and_speaks_both_languages():
    assert {english for _, english, _ in ROWS} >= set(ADVICE)
    for english, chinese in ADVICE.values():
        assert english.isascii()
        assert english.endswith(".")
        assert chinese.endswith("。")
        assert re.findall(r"`[^`]+`|/v1/[\w/-]+|ZIMG_\w+", english) == re.findall(
            r"`[^`]+`|/v1/[\w/-]+|ZIMG_\w+", chinese
        )


def test_a_sentence_that_no_row_was_made_for_has_no_advice_of_its_own():
    assert advice_for("Something else entirely.") is None

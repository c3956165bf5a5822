"""From the English sentence of an error to the Chinese one, with the same facts in it."""

from __future__ import annotations

import math
import re
import string
from collections.abc import Iterator
from functools import cache

from api.advice import ADVICE
from api.sentences import SENTENCES
from api.webhook_words import WORDS

#: Facts that are numbers; the others are words.
NUMBERS = frozenset(
    {"line", "place", "most", "least", "count", "length", "multiple", "pixels", "row", "rate", "units", "seconds"}
)
#: A fact that may be a sentence of ours itself.
NESTED = "reason"
#: Facts that list what there is to choose from.
CHOICES = frozenset({"choices", "names"})
#: A longer one holds something of the caller's that no sentence of ours is made for.
CHARACTERS_MOST = 2_000

_MINUTE, _HOUR = 60, 3_600


def in_chinese(sentence: str) -> str | None:
    """The sentence in Chinese; None if none of the table was made into it."""
    if (row := _row_of(sentence)) is None:
        return None
    found, (_, chinese) = row
    return chinese.format_map({fact: _fact(fact, said) for fact, said in found.groupdict().items()})


def advice_for(sentence: str) -> tuple[str, str] | None:
    """What to do, in English and Chinese; empty where the sentence says so itself, None if the table lacks it."""
    if (row := _row_of(sentence)) is None:
        return None
    return ADVICE.get(row[1][0], ("", ""))


def _row_of(sentence: str) -> tuple[re.Match[str], tuple[str, str]] | None:
    """The row that the sentence was made from, and its facts."""
    if len(sentence) > CHARACTERS_MOST:
        return None
    for pattern, pair in _patterns():
        if found := pattern.fullmatch(sentence):
            return found, pair
    return None


def _fact(fact: str, said: str) -> str:
    if fact == NESTED:
        return in_chinese(said) or said
    return said.replace(" or ", " 或 ") if fact in CHOICES else said


def patience(seconds: float, *, is_chinese: bool) -> str:
    """When to send a refused request again, as a sentence."""
    whole = max(1, math.ceil(seconds))
    amount, english, chinese = whole, "second", "秒"
    if whole >= 2 * _HOUR:
        amount, english, chinese = -(-whole // _HOUR), "hour", "小时"
    elif whole >= 2 * _MINUTE:
        amount, english, chinese = -(-whole // _MINUTE), "minute", "分钟"
    if is_chinese:
        return f"请等待 {amount} {chinese}。"
    return f"Wait {amount} {english}{'s' if amount != 1 else ''}."


@cache
def _patterns() -> tuple[tuple[re.Pattern[str], tuple[str, str]], ...]:
    """Every row, those with the most fixed letters first: what is special is found before what is general."""
    rows = {pair for pairs in (*SENTENCES.values(), WORDS) for pair in pairs}
    by_weight = sorted(rows, key=lambda pair: (-_fixed_letters(pair[0]), pair[0]))
    return tuple((re.compile(_expression(pair[0]), re.DOTALL), pair) for pair in by_weight)


def _fixed_letters(template: str) -> int:
    return sum(len(text) for text, _ in _pieces(template))


def _expression(template: str) -> str:
    return "".join(re.escape(text) + _capture(fact) for text, fact in _pieces(template))


def _capture(fact: str | None) -> str:
    if fact is None:
        return ""
    return f"(?P<{fact}>-?[0-9][0-9.,e+]*)" if fact in NUMBERS else f"(?P<{fact}>.+?)"


def _pieces(template: str) -> Iterator[tuple[str, str | None]]:
    for text, fact, _, _ in string.Formatter().parse(template):
        yield text, fact

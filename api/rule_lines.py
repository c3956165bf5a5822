"""The lines of a block list as patterns for folded prompts. A line that can not be meant as it stands is refused."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from api.folding import UNSPACED, closed, folded, trimmed

#: An expression, and perhaps a comment after it.
_EXPRESSION = re.compile(r"/(.+?)/(?:\s+#.*)?")
#: A letter of a word that ends where a blank would stand; a digit of a number is not told from one.
_LETTER, _LETTER_OR_DIGIT = rf"[^\W\d_{UNSPACED}]", rf"[^\W_{UNSPACED}]"
#: Parts of an expression: a code point written as an escape, any other escape, a character.
_PART = re.compile(r"\\x([0-9a-fA-F]{2})|\\u([0-9a-fA-F]{4})|\\U([0-9a-fA-F]{8})|\\N\{[^}]*\}|\\.|.", re.DOTALL)
_QUANTIFIERS = ("*", "+", "?", "{")
#: What is forbidden nowhere but at the end of each of these, without a character, is forbidden everywhere.
_ANY = ("a", "7", "\u5b57")


class BadRule(ValueError):
    """Raised for a line that is no rule; its text says which line and why."""


def parse_rules(text: str) -> list[re.Pattern[str]]:
    """The rules of a file. Raises BadRule."""
    rules = []
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            rule = _rule(trimmed(line))
        except (ValueError, re.error, OverflowError) as error:
            raise BadRule(f"line {number}: {error}") from error
        if rule is not None:
            rules.append(rule)
    return rules


def _rule(line: str) -> re.Pattern[str] | None:
    if line.startswith("/"):
        return _expression(line)
    text = closed(folded(line.split("#", maxsplit=1)[0])).strip()
    # Words match whole, so that a short one does not forbid longer ones; Chinese has no blanks between words.
    before, after = _edge(text[:1]), _edge(text[-1:])
    return re.compile((before and f"(?<!{before})") + re.escape(text) + (after and f"(?!{after})")) if text else None


def _edge(character: str) -> str:
    """What may not stand beside this first or last character of a word. `_` and, beside a letter, digits may."""
    if re.match(_LETTER, character):
        return _LETTER
    return _LETTER_OR_DIGIT if re.match(_LETTER_OR_DIGIT, character) else ""


def _expression(line: str) -> re.Pattern[str]:
    found = _EXPRESSION.fullmatch(line)
    if found is None:
        raise BadRule("it begins with / but is no /expression/; a comment after one begins with a blank and #")
    try:
        rule = re.compile(folded_expression(found[1]), re.IGNORECASE)
    except re.error:
        rule = re.compile(found[1], re.IGNORECASE)  # as it stands; what it says of itself is what the operator wrote
    if all(rule.match(text, 1) for text in _ANY):
        raise BadRule(f"the expression {line} also finds nothing at all, so it would forbid every prompt")
    return rule


def folded_expression(expression: str) -> str:
    """The expression with its literals folded as prompts are.

    ASCII stays as it is: it may mean something, and case makes no difference anyway. In a set a character that folds
    to several stays, too.
    """
    parts = list(_parts(unicodedata.normalize("NFC", expression)))
    made, run = [], ""
    for place, (part, is_literal, in_set) in enumerate(parts):
        if is_literal and not in_set:
            run += part
            if place + 1 < len(parts) and parts[place + 1][1:] == (True, False):
                continue
            is_repeated = place + 1 < len(parts) and parts[place + 1][0].startswith(_QUANTIFIERS)
            made.append(_folded_run(run, is_repeated=is_repeated))
            run = ""
        elif is_literal:
            plain = folded(part)
            made.append(re.escape(plain) if len(plain) == 1 else part)
        else:
            made.append(part)
    return "".join(made)


def _folded_run(run: str, *, is_repeated: bool) -> str:
    """Literals in a row; a quantifier behind them repeats the last one whole."""
    if not is_repeated:
        return re.escape(folded(run))
    last = folded(run[-1])
    return re.escape(folded(run[:-1])) + (re.escape(last) if len(last) == 1 else f"(?:{re.escape(last)})")


def _parts(expression: str) -> Iterator[tuple[str, bool, bool]]:
    """(text, whether it is a literal beyond ASCII, whether it stands in a set) for each part of an expression."""
    in_set, begun = False, 0
    for found in _PART.finditer(expression):
        part, code = found[0], found[1] or found[2] or found[3]
        literal = chr(int(code, 16)) if code and int(code, 16) < 0x110000 else part.removeprefix("\\")
        if len(literal) == 1 and not literal.isascii():
            yield literal, True, in_set
            continue
        yield part, False, in_set
        if not in_set and part == "[":
            in_set, begun = True, found.end() + (expression[found.end() : found.end() + 1] == "^")
        elif in_set and part == "]" and found.start() > begun:
            in_set = False

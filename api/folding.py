"""Texts as the block list compares them: without what one can write differently and nobody sees."""

from __future__ import annotations

import re
import unicodedata

#: Scripts that write no blanks between words, or hang endings on them: Thai to Khmer, Kana, Han, Hangul.
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff"
)
_HAN = "\u3005\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
#: Blanks beside a Chinese character, and marks between two of them that end no sentence.
_GAP = re.compile(rf"(?<=[{_HAN}])[\s\-_*.·・•~|/]+(?=[{_HAN}])|(?<=[{_HAN}])\s+|\s+(?=[{_HAN}])")
_BLANKS = re.compile(r"\s+")
#: Shown as nothing, beside the format characters (Cf): fillers, joiners, variation selectors; and accents that are
#: heaped on letters which have none.
_UNSEEN = re.compile(
    "[\u0300-\u036f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


def folded(text: str) -> str:
    """The text without differences of case, width and composition, without what nobody sees, its blanks single."""
    seen = _visible(text)
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", seen).casefold())
    return _BLANKS.sub(" ", _UNSEEN.sub("", _visible(plain)))


def closed(text: str) -> str:
    """The text without blanks beside Chinese characters."""
    return _GAP.sub("", text)


def trimmed(text: str) -> str:
    """The text without blanks and format characters, such as a byte order mark, at its ends."""
    return text.strip("".join({character for character in text if character.isspace() or _is_format(character)}))


def _visible(text: str) -> str:
    """Without format characters, such as zero-width blanks and soft hyphens."""
    return "".join(character for character in text if not _is_format(character))


def _is_format(character: str) -> bool:
    return unicodedata.category(character) == "Cf"

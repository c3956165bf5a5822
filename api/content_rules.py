"""The operator's block list: what prompts may not hold. Refused at submit, it costs nothing and draws nothing.

A file with one rule a line: a word or phrase, or `/a regular expression/`; `#` starts a comment. Case, width, accents
written apart, characters that nobody sees and blanks between Chinese characters make no difference. The file is read
again when it changes; no restart is needed.
"""

from __future__ import annotations

import re
import threading
import time
import unicodedata
from pathlib import Path

import structlog

from core.errors import ConfigurationError, InvalidRequest

LOOK_SECONDS = 1.0

#: Scripts that write no blanks between words, or hang endings on them: Thai to Khmer, Kana, Han, Hangul.
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff"
)
_HAN = "\u3005\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
#: A letter of a word that ends where a blank would stand.
_LETTER = rf"[^\W{UNSPACED}]"
#: Blanks beside a Chinese character, and marks between two of them that end no sentence.
_GAP = re.compile(rf"(?<=[{_HAN}])[\s\-_*.·・•~|/]+(?=[{_HAN}])|(?<=[{_HAN}])\s+|\s+(?=[{_HAN}])")
_BLANKS = re.compile(r"\s+")
#: Shown as nothing, beside the format characters (Cf): fillers, joiners, variation selectors; and accents that are
#: heaped on letters which have none.
_UNSEEN = re.compile(
    "[\u0300-\u036f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)

log = structlog.get_logger(__name__)


class ContentRules:
    """Checks prompts against the file. Thread-safe."""

    def __init__(self, path: str) -> None:
        self._path = Path(path) if path else None
        self._lock = threading.Lock()
        self._looked, self._stamp = 0.0, (0, 0)
        self._rules: list[re.Pattern[str]] = []
        if self._path is not None and not self._path.is_file():
            raise ConfigurationError(f"ZIMG_BLOCK_LIST={path!r}: there is no such file.")

    def check(self, prompt: str) -> None:
        """Raises InvalidRequest `content_policy_violation` for a prompt that a rule forbids; says not which."""
        if self._path is None:
            return
        with self._lock:
            self._reload(self._path)
            rules = self._rules
        text = folded(prompt)
        forms = {text, closed(text)}
        if any(rule.search(form) for rule in rules for form in forms):
            raise InvalidRequest(
                "The operator's content rules do not allow this prompt. Nothing was charged.",
                field="prompt",
                code="content_policy_violation",
            )

    def _reload(self, path: Path) -> None:
        """Read the file if it changed; a file that can not be read leaves the rules as they were."""
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        try:
            stat = path.stat()
            stamp = (stat.st_mtime_ns, stat.st_size)
            if stamp != self._stamp:
                self._rules, self._stamp = parse_rules(path.read_text(encoding="utf-8")), stamp
                log.info("block list read", action="content_rules", rules=len(self._rules))
        except (OSError, UnicodeDecodeError, re.error) as error:
            log.error("block list not readable; the rules stay as they were", action="content_rules", error=str(error))


def parse_rules(text: str) -> list[re.Pattern[str]]:
    """The rules of a file. Raises re.error for a bad expression."""
    lines = (
        line.split("#")[0].strip() if not line.lstrip().startswith("/") else line.strip() for line in text.splitlines()
    )
    return [_rule(line) for line in lines if line]


def _rule(line: str) -> re.Pattern[str]:
    if len(line) > 2 and line[0] == line[-1] == "/":
        return re.compile(line[1:-1], re.IGNORECASE)
    text = closed(folded(line))
    # Words match whole, so that a short one does not forbid longer ones; Chinese has no blanks between words.
    before = rf"(?<!{_LETTER})" if re.match(_LETTER, text) else ""
    after = rf"(?!{_LETTER})" if re.match(_LETTER, text[-1:]) else ""
    return re.compile(before + re.escape(text) + after)


def folded(text: str) -> str:
    """The text without differences of case, width and composition, without what nobody sees, its blanks single."""
    seen = _visible(text)
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", seen).casefold())
    return _BLANKS.sub(" ", _UNSEEN.sub("", _visible(plain)))


def closed(text: str) -> str:
    """The text without blanks beside Chinese characters."""
    return _GAP.sub("", text)


def _visible(text: str) -> str:
    """Without format characters, such as zero-width blanks and soft hyphens."""
    return "".join(character for character in text if unicodedata.category(character) != "Cf")

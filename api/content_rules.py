"""The operator's block list: what prompts may not hold. Refused at submit, it costs nothing and draws nothing.

A file with one rule a line: a word or phrase, or `/a regular expression/`; `#` starts a comment. Case, width, accents
written apart, characters that nobody sees and blanks between Chinese characters make no difference. The file is read
again when it changes; no restart is needed. What can not be read stops the start, and later changes nothing: the list
never becomes shorter by mistake.
"""

from __future__ import annotations

import codecs
import re
import threading
import time
from pathlib import Path

import structlog

from api.folding import closed, folded
from api.rule_lines import BadRule, parse_rules
from core.errors import ConfigurationError, InvalidRequest

LOOK_SECONDS = 1.0
MISSING = (0, 0)
#: One Chinese character of ten in GB18030 also reads as one of UTF-8, often of these, which no list is written in.
_RARE = re.compile("[\u01a2-\u01af\u01b1-\u01bf\u01e1-\u01ff\u0221-\u023f\u0261-\u027f\u02a1-\u02ff]")

log = structlog.get_logger(__name__)


class ContentRules:
    """Checks prompts against the file. Thread-safe. Raises ConfigurationError for a file that is not good."""

    def __init__(self, path: str) -> None:
        self._path = Path(path) if path else None
        self._lock = threading.Lock()
        self._looked, self._stamp = 0.0, MISSING
        self._rules: list[re.Pattern[str]] = []
        if self._path is None:
            return
        if not self._path.is_file():
            raise ConfigurationError(f"ZIMG_BLOCK_LIST={path!r}: there is no such file.")
        try:
            self._stamp, self._rules = _stamp(self._path), _read(self._path)
        except (OSError, BadRule) as error:
            raise ConfigurationError(f"ZIMG_BLOCK_LIST={path!r}: {_why(error)}. Correct it and start again.") from error

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
        """Read the file if it changed; one that is not good leaves the rules as they were, and is told once."""
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        stamp = _stamp(path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._rules = _read(path)
        except (OSError, BadRule) as error:
            log.error(
                "block list not good; the rules stay as they were",
                action="content_rules",
                path=str(path),
                rules=len(self._rules),
                error=_why(error),
            )
        else:
            log.info("block list read", action="content_rules", rules=len(self._rules))


def _stamp(path: Path) -> tuple[int, int]:
    """What changes with the file."""
    try:
        stat = path.stat()
    except OSError:
        return MISSING
    return stat.st_mtime_ns, stat.st_size


def _read(path: Path) -> list[re.Pattern[str]]:
    """The file's rules. Raises OSError, and BadRule for what is no list of rules."""
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadRule("it is in another encoding. Save it as UTF-8") from error
    if "\0" in text:
        raise BadRule("it is in another encoding, or no text. Save it as UTF-8")
    if _RARE.search(text) and not data.startswith(codecs.BOM_UTF8) and _is_gb18030(data):
        raise BadRule("it looks like GB18030, as Windows saves Chinese. Save it as UTF-8 with BOM")
    return parse_rules(text)


def _is_gb18030(data: bytes) -> bool:
    try:
        data.decode("gb18030")
    except UnicodeDecodeError:
        return False
    return True


def _why(error: Exception) -> str:
    return f"it can not be read ({error.strerror or error})" if isinstance(error, OSError) else str(error)

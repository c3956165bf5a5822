"""The operator's block list: what prompts may not hold. Refused at submit, it costs nothing and draws nothing.

A file with one rule a line: a word or phrase, or `/a regular expression/`; `#` starts a comment. Case, width and
accents written apart make no difference. The file is read again when it changes; no restart is needed.
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
        if any(rule.search(text) for rule in rules):
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
    words = re.escape(folded(line))
    # Latin words match whole, so that a short one does not forbid longer ones; Chinese has no blanks between words.
    return re.compile(rf"(?<!\w){words}(?!\w)" if line.isascii() else words)


def folded(text: str) -> str:
    """The text without differences of case, width and composition."""
    return unicodedata.normalize("NFKC", text).casefold()

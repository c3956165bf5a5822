"""Which of our two languages the caller reads."""

from __future__ import annotations

from typing import Literal

from flask import has_request_context, request

from api.translation import in_chinese

Language = Literal["en", "zh-CN"]


def preferred_language() -> Language:
    """By `Accept-Language`: Chinese if it is preferred to English, else English."""
    if not has_request_context():
        return "en"
    for tag, quality in request.accept_languages:
        if quality > 0 and tag.lower().split("-")[0] in ("en", "zh"):
            return "zh-CN" if tag.lower().startswith("zh") else "en"
    return "en"


def in_readers_language(sentence: str) -> str:
    """A sentence that is kept in English, for the caller; one that no row was made for stays as it is."""
    return (in_chinese(sentence) if preferred_language() == "zh-CN" else None) or sentence

"""An error as a page, for a person who opened a link in a browser: the same sentence, and a way on."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from flask import request

from api.language import Language

_PAGE = """<!doctype html>
<html lang="{language}">
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>{title} · zimg</title>
<link rel="icon" href="/static/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/static/table.css">
</head>
<body><main>
<h1>{title}</h1>
<p>{detail}</p>
<p><a href="/">{home}</a></p>
<p><small>{status} · {code} · {request_id}</small></p>
</main></body></html>
"""
_HOME = {"en": "Go to the pictures", "zh-CN": "前往图片页"}


def is_for_a_person() -> bool:
    """A browser that opens an address asks for HTML by name; pictures in pages, programs and all of /v1 do not."""
    asked = [mimetype for mimetype, quality in request.accept_mimetypes if quality > 0]
    return "text/html" in asked and not request.path.startswith("/v1/")


def page_of(problem: Mapping[str, Any], language: Language) -> str:
    """The problem's body as HTML; nothing in it is markup."""
    shown = {name: escape(str(problem[name])) for name in ("title", "detail", "status", "code", "request_id")}
    return _PAGE.format(language=language, home=_HOME[language], **shown)

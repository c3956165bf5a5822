"""/docs (Swagger UI), /docs/scalar, all files local; /openapi.json, /llms.txt and /problems (the errors for people)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import flask_openapi_scalar
import flask_openapi_swagger
from flask import Blueprint, Response, current_app, jsonify, redirect, send_from_directory
from flask.typing import ResponseReturnValue
from flask_openapi.models.info import Info
from flask_openapi.openapi import OpenAPI

from api.context import base_url
from api.errors import PROBLEM_JSON
from api.language import Language, preferred_language
from api.openapi_document import complete
from api.page import CACHE_CONTROL, STATIC
from api.problems import PROBLEMS, WORTH_ANOTHER, Problem
from api.security import CONTENT_SECURITY_POLICY
from core import __version__

docs = Blueprint("docs", __name__)

_COMPLETE = "zimg-openapi"  # made at the first request for it

SWAGGER = Path(flask_openapi_swagger.__file__).parent / "templates" / "swagger"
SCALAR = Path(flask_openapi_scalar.__file__).parent / "templates" / "scalar"
INFO = Info(
    title="zimg",
    version=__version__,
    description="Z-Image-Turbo as a service. A request is a prompt, a size, perhaps a seed; everything else is a named "
    "preset.\n\nErrors are RFC 9457 problems with a stable `code` (see [/problems](/problems)) and OpenAI's `error` "
    "member, in English or Chinese by `Accept-Language`. Every answer carries `X-Request-Id`.",
)
SECURITY_SCHEMES: dict[str, Any] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "A key of `zimg keys create`; none needed on localhost without keys.",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": "zimg_session",
        "description": "The page's session. A request without a key may say in the header `X-Zimg-Tenant` which "
        "account it is meant for; where the session is another's by now, the routes of an account answer 409 "
        "`conflict` and do nothing.",
    },
}

#: Swagger UI sets styles on elements and shows icons from data: URLs; scripts stay ours alone.
DOCS_POLICY = CONTENT_SECURITY_POLICY.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")


@docs.get("/openapi.json")
def document() -> Response:
    """The OpenAPI document."""
    app = current_app
    assert isinstance(app, OpenAPI)
    if _COMPLETE not in app.extensions:
        app.extensions[_COMPLETE] = complete(app.api_doc)
    return jsonify(app.extensions[_COMPLETE])


@docs.get("/docs")
def swagger() -> Response:
    """The documentation page, where one can try everything out."""
    return _docs_page("docs.html")


@docs.get("/docs/scalar")
def scalar() -> Response:
    """The same document in Scalar's form, for those who rather read."""
    return _docs_page("scalar.html")


def _docs_page(name: str) -> Response:
    response = send_from_directory(STATIC, name)
    response.headers["Content-Security-Policy"] = DOCS_POLICY
    response.headers["Cache-Control"] = CACHE_CONTROL
    return response


@docs.get("/docs/")
def swagger_with_slash() -> ResponseReturnValue:
    """For those who type a slash."""
    return redirect("/docs", 308)


@docs.get("/docs/assets/<path:name>")
def asset(name: str) -> Response:
    """Swagger UI's own files, from its package."""
    return send_from_directory(SWAGGER, name, max_age=86_400)


@docs.get("/docs/scalar/assets/<path:name>")
def scalar_asset(name: str) -> Response:
    """Scalar's own files, from its package."""
    return send_from_directory(SCALAR, name, max_age=86_400)


@docs.get("/llms.txt")
def for_programs() -> Response:
    """What a language model needs to know to use this service, as plain text (llmstxt.org)."""
    return Response(_LLMS_TEXT.format(url=base_url()), mimetype="text/plain")


def _as_html(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


@docs.get("/problems")
def problems() -> Response:
    """Every error code, in both languages."""
    words = _PROBLEMS_WORDS[preferred_language()]
    rows = "".join(
        f'<tr id="{code}"><td><code>{code}</code></td><td>{problem.status}</td>'
        f'<td lang="en">{escape(problem.title)}. {_as_html(problem.advice)}</td>'
        f'<td lang="zh-CN">{escape(problem.title_zh)}。{escape(problem.advice_zh)}</td>'
        f"<td>{_when_again(code, problem, words)}</td></tr>"
        for code, problem in PROBLEMS.items()
    )
    page = _PROBLEMS_PAGE.format(rows=rows, language=preferred_language(), **words)
    return Response(page, mimetype="text/html", headers={"Vary": "Accept-Language"})


def _when_again(code: str, problem: Problem, words: Mapping[str, str]) -> str:
    """When the same request may be sent again."""
    if problem.is_worth_a_retry:
        return _RETRY
    return words["later"] if code in WORTH_ANOTHER else words["never"]


_LLMS_TEXT = """# zimg

> Pictures from text with Z-Image-Turbo. A request is a prompt, a size, perhaps a seed; everything else is fixed by a
> named preset. Keys go into `Authorization: Bearer KEY`; on localhost none is needed.

- [The whole API]({url}/openapi.json): OpenAPI 3, with an example of every body
- [Every error code]({url}/problems): what it means and what to do
- [For people]({url}/docs)

## A picture in one call (OpenAI's API, base_url {url}/v1)

POST {url}/v1/images/generations {{"prompt": "a red mug on white"}} answers {{"data": [{{"url": ...}}]}}

## A picture as a job

POST {url}/v1/jobs {{"prompt": "a red mug on white", "size": "1024x1024", "seed": 7}} answers 202 with `id`.
GET {url}/v1/jobs/ID?wait=20 answers when it has ended; `images[0].url` is the PNG and needs no key.
Send an `Idempotency-Key`, so that the same request sent again draws once. On 429 and 503 wait for `Retry-After`.
"""

_RETRY = "<code>retry_at</code>, <code>Retry-After</code>"
_PROBLEMS_WORDS: dict[Language, dict[str, str]] = {
    "en": {
        "title": "Problems",
        "about": "The <code>code</code> of an error never changes its meaning. Errors are sent as "
        f"<code>{PROBLEM_JSON}</code> (RFC 9457), in English or Chinese by <code>Accept-Language</code>; "
        "<code>field</code> names the member that is wrong.",
        "status": "status",
        "meaning": "meaning, and what to do",
        "when": "when to send it again",
        "later": "later, as a new request",
        "never": "not as it stands",
    },
    "zh-CN": {
        "title": "错误代码",
        "about": "错误的 <code>code</code> 含义不会改变。错误以 "
        f"<code>{PROBLEM_JSON}</code>（RFC 9457）返回，语言（英文或中文）由 <code>Accept-Language</code> 决定；"
        "<code>field</code> 指出有误的字段。",
        "status": "状态码",
        "meaning": "英文含义与建议",
        "when": "何时重发",
        "later": "稍后，作为新的请求",
        "never": "须先修改请求",
    },
}

_PROBLEMS_PAGE = """<!doctype html>
<html lang="{language}">
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>zimg: {title}</title>
<link rel="icon" href="/static/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/static/table.css">
</head>
<body><main>
<h1>{title}</h1>
<p>{about}</p>
<div class="wide" tabindex="0" role="region" aria-label="{title}"><table>
<thead><tr><th>code</th><th>{status}</th><th>{meaning}</th><th lang="zh-CN">中文</th>
<th>{when}</th></tr></thead>
<tbody>{rows}</tbody>
</table></div>
</main></body></html>
"""

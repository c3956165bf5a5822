"""How an exception becomes an answer, by the table in problems.py.

Every error answer is RFC 9457 `application/problem+json` with a stable `code`, and carries OpenAI's `error` member so
that its clients raise their own exceptions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

import structlog
from flask import Flask, Response, g, json, make_response, request
from gunicorn.http.errors import ParseException
from pydantic import ValidationError
from werkzeug.exceptions import HTTPException, MethodNotAllowed, RequestedRangeNotSatisfiable

from api.context import base_url
from api.language import Language, preferred_language
from api.parser_words import AS_DOCS_SAY, OF_PYDANTIC
from api.problem_page import is_for_a_person, page_of
from api.problems import PROBLEMS, VIOLATED_POLICY, Problem
from api.translation import advice_for, in_chinese, patience
from core import errors

PROBLEM_JSON = "application/problem+json"

#: The openai client retries a 429 by itself; when the wait is longer than this, tell it not to (it gives up anyway).
LONGEST_CLIENT_RETRY_SECONDS = 120

#: A body may be wrong in tens of thousands of places; each one told costs a look through all sentences.
ERRORS_SHOWN_MOST = 100

#: Where a word in the place of a job's id finds no route.
JOB_PATH = re.compile(r"/v1/(?:admin/)?jobs/.")

CHINESE = re.compile("[\u4e00-\u9fff]")
ENDS = (".", "。", "!", "！", "?", "？")

RETRY_HEADERS = ("Retry-After", "x-should-retry")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class FieldError:
    """One wrong member of a request: a JSON pointer (RFC 6901), or `?name` for a query parameter."""

    pointer: str
    code: str
    detail: str


class InvalidFields(errors.InvalidRequest):
    """Raised for a body or query that fails the schema; carries every wrong member, and is named after the first."""

    def __init__(self, fields: Sequence[FieldError]) -> None:
        first = fields[0]
        super().__init__(first.detail, field=first.pointer.lstrip("/?").replace("/", ".") or None, code=first.code)
        self.fields = tuple(fields)


class TooLarge(errors.Refusal):
    """Raised for a body above its bound."""

    code = "body_too_large"


class UnsupportedMediaType(errors.Refusal):
    """Raised for a body that is not of the content type that the route takes."""

    code = "unsupported_media_type"


class GenerationFailed(errors.ZimgError):
    """Raised by a synchronous call whose job ended badly; the service tried again already, so the client should not."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


#: werkzeug's own refusals, by status.
HTTP_CODES = {
    400: "invalid_request", 401: "invalid_api_key", 403: "forbidden", 404: "not_found", 405: "method_not_allowed",
    410: "gone", 413: "body_too_large", 415: "unsupported_media_type", 416: "range_not_satisfiable", 503: "unavailable",
}  # fmt: skip

#: OpenAI's routes that change a picture.
EDITS = ("/v1/images/edits", "/v1/images/variations")

#: What is said of them; 405, 413 and 416 name their facts.
HTTP_SENTENCES = {
    "invalid_request": "The request could not be read.",
    "not_found": "There is nothing at this address; /docs lists what there is.",
}

#: pydantic's error types that have a code of their own; the others are `invalid_request`.
PYDANTIC_CODES = {
    "missing": "missing_field",
    **dict.fromkeys(
        ("string_type", "int_type", "int_from_float", "int_parsing", "bool_type", "bool_parsing", "dict_type",
         "list_type", "model_type", "model_attributes_type"),
        "invalid_type",
    ),
    **dict.fromkeys(
        ("literal_error", "enum", "greater_than_equal", "less_than_equal", "less_than", "greater_than", "too_short",
         "string_too_short"),
        "out_of_range",
    ),
    **dict.fromkeys(("string_too_long", "too_long"), "too_long"),
}  # fmt: skip


def problem_for(code: str, error: BaseException | None = None) -> tuple[str, Problem]:
    """The row of `code`; an unknown code falls back to those of the error's base classes."""
    classes = type(error).__mro__ if error is not None else ()
    for candidate in (code, *(str(getattr(cls, "code", "")) for cls in classes)):
        if candidate in PROBLEMS:
            return candidate, PROBLEMS[candidate]
    return "internal_error", PROBLEMS["internal_error"]


def refuse_invalid(error: ValidationError) -> Response:
    """flask-openapi's callback: raises our own error for pydantic's."""
    raise invalid_fields(error) from error


def invalid_fields(error: ValidationError, *, prefix: str = "/") -> InvalidFields:
    """Our error for pydantic's; never repeats what was sent."""
    prefix = "?" if getattr(error, "title", "").endswith("Query") else prefix
    told = error.errors(include_input=False, include_url=False)[:ERRORS_SHOWN_MOST]
    return InvalidFields([_field_error(item, prefix) for item in told])


def _field_error(item: Any, prefix: str) -> FieldError:
    location: Iterable[Any] = item["loc"] or ("",)
    pointer = prefix + "/".join(str(part).replace("~", "~0").replace("/", "~1") for part in location)
    kind = str(item["type"])
    code = kind if kind in PROBLEMS else PYDANTIC_CODES.get(kind, "invalid_request")
    name = ".".join(str(part) for part in location) or "the body"
    is_ours = kind in PROBLEMS and "field_type" not in item.get("ctx", {})  # pydantic has a `too_long` as well
    return FieldError(pointer, code, item["msg"] if is_ours else _sentence_of(kind, name, item))


def _sentence_of(kind: str, name: str, item: Any) -> str:
    """In our words, since pydantic's speak of Python."""
    return OF_PYDANTIC.get(kind, AS_DOCS_SAY).format(name=name, **item.get("ctx", {}))


def install(app: Flask) -> None:
    """Answer every exception of `app` from the table."""
    app.register_error_handler(errors.ZimgError, _answer_ours)
    app.register_error_handler(HTTPException, _answer_http)
    app.register_error_handler(ParseException, _answer_unreadable)
    app.register_error_handler(Exception, _answer_unforeseen)


def _answer_ours(error: Exception) -> Response:
    assert isinstance(error, errors.ZimgError)
    if isinstance(error, errors.RedisUnavailable):
        g.redis_is_away = True
    if isinstance(error, errors.Unavailable):
        log.warning("unavailable", action="answer", code=error.code)
    return answer(error.code, str(error), error=error)


def _answer_http(error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.response is not None or (error.code or 500) < 400:
        return make_response(error.get_response())  # a redirect, or an answer made on purpose
    code = HTTP_CODES.get(error.code or 500, "invalid_request" if (error.code or 500) < 500 else "internal_error")
    made = answer(code, _http_sentence(code, error), error=error)
    for name, value in error.get_headers():
        if name in ("Allow", "Content-Range"):
            made.headers[name] = value
    return made


def _http_sentence(code: str, error: HTTPException) -> str:
    """In our words, since werkzeug's speak of servers and spelling."""
    if code == "not_found" and JOB_PATH.match(request.path):
        return "There is no job with this id."
    if code == "not_found" and request.path in EDITS:
        return "This service draws from words alone; it changes no pictures."
    if isinstance(error, MethodNotAllowed):
        return f"This address takes {', '.join(sorted(error.valid_methods or ()))}."
    if isinstance(error, RequestedRangeNotSatisfiable):
        return f"The file has {error.length or 0} bytes; ask for a range within them."
    if code == "body_too_large":
        return f"The body is too large; at most {request.max_content_length or 0} bytes are read."
    return HTTP_SENTENCES.get(code, "")


def _answer_unreadable(error: Exception) -> Response:
    """A body whose chunks are broken: gunicorn says so while a route reads it, and then ends the connection."""
    log.warning("no HTTP body", action="refuse", kind=type(error).__name__)
    return answer("invalid_request", HTTP_SENTENCES["invalid_request"], error=error)


def _answer_unforeseen(error: Exception) -> Response:
    log.error("unforeseen error", action="answer", request_id=g.get("request_id", ""), exc_info=error)
    return answer("internal_error", "The error was recorded; tell the operator the request_id.", error=error)


def answer(code: str, detail: str, *, error: BaseException | None = None, patience_seconds: float = 0.0) -> Response:
    """The problem as a response, in the language that the caller reads; it asks for `patience_seconds` at least."""
    code, problem = problem_for(code, error)
    retry_after = getattr(error, "retry_after_seconds", None)
    if retry_after is not None:
        retry_after = max(retry_after, patience_seconds)
    language = preferred_language()
    body = problem_body(
        code, problem, detail, language=language, field=getattr(error, "field", None), retry_after=retry_after
    )
    if isinstance(error, InvalidFields):
        body["errors"] = [
            {"pointer": field.pointer, "code": field.code, "detail": _in(language, field.detail, problem)}
            for field in error.fields
        ]
    body |= getattr(error, "extra", {})
    response = Response(json.dumps(body), status=problem.status, content_type=PROBLEM_JSON)
    if is_for_a_person():
        response = Response(page_of(body, language), status=problem.status, mimetype="text/html")
    response.headers["Content-Language"] = language
    response.headers["Cache-Control"] = "no-store"
    _add_retry_headers(response, error, retry_after)
    if problem.status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = 'Bearer realm="zimg"'
    g.answered = (code, detail, error)
    return response


def problem_body(
    code: str,
    problem: Problem,
    detail: str,
    *,
    language: Language,
    field: str | None = None,
    retry_after: float | None = None,
) -> dict[str, Any]:
    """RFC 9457 members, ours, and OpenAI's `error`."""
    title = problem.title_zh if language == "zh-CN" else problem.title
    detail = _with_advice(language, detail, problem)
    if retry_after is not None:
        detail = _joined(detail, patience(retry_after, is_chinese=language == "zh-CN"))
    body: dict[str, Any] = {
        "type": problem.type_uri or f"{base_url()}/problems#{code}",
        "title": title,
        "status": problem.status,
        "detail": detail,
        "instance": request.path,
        "code": code,
        "request_id": g.get("request_id", ""),
        "error": {"message": _message(title, detail), "type": problem.openai_type, "param": field, "code": code},
    }
    if field:
        body["field"] = field
    if retry_after is not None:
        body |= _when(retry_after)
    if code in VIOLATED_POLICY:
        body["violated-policies"] = [VIOLATED_POLICY[code]]
    return body


def _message(title: str, detail: str) -> str:
    """What OpenAI's clients show; some sentences begin with the title's own words, which are said once."""
    colon = "：" if CHINESE.search(title) else ": "
    return detail if detail.startswith(title) else f"{title}{colon}{detail}"


def _in(language: Language, detail: str, problem: Problem) -> str:
    """The sentence in the caller's language; one that the table lacks is told in English, after what we know of it."""
    if language == "en" or not detail:
        return detail or (problem.advice if language == "en" else problem.advice_zh)
    return in_chinese(detail) or f"{problem.title_zh}。{problem.advice_zh}（{detail}）"


def _with_advice(language: Language, detail: str, problem: Problem) -> str:
    """The sentence and, where it only says what is wrong, what to do about it."""
    told = _in(language, detail, problem)
    english, chinese = (advice_for(detail) if detail else None) or ("", "")
    return _joined(told, chinese if language == "zh-CN" else english)


def _joined(told: str, more: str) -> str:
    """Two sentences, the first one with an end; Chinese ones need no blank between them."""
    if not more:
        return told
    is_chinese = bool(CHINESE.search(more))
    end = "" if told.endswith(ENDS) else "。" if is_chinese else "."
    return f"{told}{end}{'' if is_chinese else ' '}{more}"


def localized(code: str, detail: str) -> str:
    """What an error says in the language that the caller reads, and what to do about it."""
    return _with_advice(preferred_language(), detail, problem_for(code)[1])


def postpone(response: Response, seconds: float) -> Response:
    """A refusal that asks for at least so many seconds of patience, in its headers and its body."""
    told = response.headers.get("Retry-After", type=int)
    if told is None or told >= seconds or "answered" not in g:
        return response
    code, detail, error = g.answered
    again = answer(code, detail, error=error, patience_seconds=seconds)
    response.set_data(again.get_data())
    response.headers.update({name: value for name, value in again.headers.items() if name in RETRY_HEADERS})
    return response


def _when(retry_after: float) -> dict[str, Any]:
    moment = datetime.now(UTC) + timedelta(seconds=math.ceil(retry_after))
    return {"retry_after_seconds": math.ceil(retry_after), "retry_at": moment.strftime("%Y-%m-%dT%H:%M:%SZ")}


def _add_retry_headers(response: Response, error: BaseException | None, retry_after: float | None) -> None:
    if retry_after is not None:
        response.headers["Retry-After"] = str(max(1, math.ceil(retry_after)))
        if retry_after > LONGEST_CLIENT_RETRY_SECONDS:
            response.headers["x-should-retry"] = "false"
    if isinstance(error, GenerationFailed):
        response.headers["x-should-retry"] = "false"

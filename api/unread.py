"""The answer to what can not be read as a request: the same problem+json as everywhere, written by hand.

Flask never sees such a request, and its language is not known.
"""

from __future__ import annotations

import json
import secrets
from http import HTTPStatus
from typing import Any

from api.problems import PROBLEMS
from api.translation import advice_for


def answer(*, is_too_large: bool, limits: Any) -> bytes:
    """A whole HTTP response; `limits` is gunicorn's configuration."""
    code = "head_too_large" if is_too_large else "invalid_request"
    detail = "The request could not be read."
    if is_too_large:
        detail = (
            f"The address and each header may have {limits.limit_request_line} bytes, and there may be "
            f"{limits.limit_request_fields} headers."
        )
    detail = f"{detail} {(advice_for(detail) or ('',))[0]}"
    problem, request_id = PROBLEMS[code], f"req_{secrets.token_hex(12)}"
    body = json.dumps(
        {
            "type": f"/problems#{code}",
            "title": problem.title,
            "status": problem.status,
            "detail": detail,
            "instance": "",
            "code": code,
            "request_id": request_id,
            "error": {
                "message": f"{problem.title}: {detail}",
                "type": problem.openai_type,
                "param": None,
                "code": code,
            },
        }
    ).encode()
    head = (
        f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}\r\nConnection: close\r\n"
        f"Content-Type: application/problem+json\r\nContent-Length: {len(body)}\r\nX-Request-Id: {request_id}\r\n"
        "X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n\r\n"
    )
    return head.encode() + body

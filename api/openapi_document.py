"""The OpenAPI document as it is served: what the routes say, and webhooks, examples and problem types."""

from __future__ import annotations

from copy import deepcopy
from http import HTTPStatus
from typing import Any

from flask_openapi.utils import get_model_schema

from api.errors import PROBLEM_JSON
from api.openapi_examples import EVENT_EXAMPLES, EXAMPLES, HOST
from api.openapi_headers import add_headers
from api.openapi_parts import SECURITY, problems
from api.problems import PROBLEMS, Problem
from api.webhook_events import EVENTS

_JSON = "application/json"
_BODY_REFUSALS = (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
_WEBHOOK_HEADERS = {
    "webhook-id": "The event's id: the same over all tries.",
    "webhook-timestamp": "When this try was made, in Unix seconds; refuse what is more than five minutes off.",
    "webhook-signature": "Standard Webhooks' signatures, `v1,` and base64, spaces between; one must match.",
}
#: On every answer of a route that acts for a tenant; absent where Redis is away, or nobody was named.
_LIMIT_HEADERS = {
    "RateLimit-Policy": "The tenant's limits by name: `q` pictures in `w` seconds (`queue`: that may wait).",
    "RateLimit": "What is left of each: `r` pictures; more after `t` seconds.",
    "x-ratelimit-limit-requests": "Pictures that the tenant may ask for in a day.",
    "x-ratelimit-remaining-requests": "Pictures that are left of them.",
    "x-ratelimit-reset-requests": "When the day is over, as `3600s`.",
}


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """The whole document; `document` is left as it is."""
    made = deepcopy(document)
    schemas = made["components"]["schemas"]
    for name, schema in _event_schemas().items():
        schemas.setdefault(name, schema)
    for name, example in EXAMPLES.items():
        if name in schemas and "example" not in schemas[name]:
            schemas[name]["example"] = example
    _refuse_bodies(made)
    _add_problems(made)
    _add_limits(made)
    add_headers(made)
    _free_bodies(made)
    made["webhooks"] = {kind: {"post": _webhook(kind)} for kind in EVENTS}
    return made


def _event_schemas() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for kind, model in EVENTS.items():
        schema = get_model_schema(model, mode="serialization")
        found |= schema.pop("$defs", {})
        found[model.__name__] = {**schema, "example": EVENT_EXAMPLES[kind]}
    return found


def _webhook(kind: str) -> dict[str, Any]:
    model = EVENTS[kind]
    return {
        "operationId": f"webhook_{kind.replace('.', '_')}",
        "tags": ["Webhooks"],
        "summary": (model.__doc__ or kind).strip(),
        "security": [],
        "parameters": [
            {"name": name, "in": "header", "required": True, "description": text, "schema": {"type": "string"}}
            for name, text in _WEBHOOK_HEADERS.items()
        ],
        "requestBody": {
            "required": True,
            "content": {_JSON: {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}},
        },
        "responses": {
            "2XX": {"description": "Taken: it is not sent again."},
            "410": {"description": "Not wanted any more: the endpoint is turned off."},
            "default": {"description": "Anything else, redirects too: it is sent again, over three days."},
        },
    }


def _refuse_bodies(document: dict[str, Any]) -> None:
    """Whoever takes a body refuses one that is too large, or of another kind."""
    for operations in document["paths"].values():
        for operation in operations.values():
            if "requestBody" in operation:
                operation["responses"] |= {
                    f"{status:d}": answer for status, answer in problems(*_BODY_REFUSALS).items()
                }


def _add_problems(document: dict[str, Any]) -> None:
    """Every code with an example of its body; each error answer refers to those of its status."""
    components = document["components"]
    components["examples"] = {
        code: {"summary": problem.title, "value": problem_example(code, problem)} for code, problem in PROBLEMS.items()
    }
    by_status: dict[str, dict[str, Any]] = {}
    for code, problem in PROBLEMS.items():
        by_status.setdefault(str(problem.status), {})[code] = {"$ref": f"#/components/examples/{code}"}
    components["responses"] = {f"Problem{status}": _problem_answer(status, by_status[status]) for status in by_status}
    _describe_problem(components["schemas"]["ProblemObject"])
    for operations in document["paths"].values():
        for operation in operations.values():
            for status, answer in operation["responses"].items():
                if list(answer.get("content", ())) == [PROBLEM_JSON] and status in by_status:
                    operation["responses"][status] = {"$ref": f"#/components/responses/Problem{status}"}


def _free_bodies(document: dict[str, Any]) -> None:
    """A body of which no member is required may be left out: it is read as one without members."""
    schemas = document["components"]["schemas"]
    for operations in document["paths"].values():
        for operation in operations.values():
            body = operation.get("requestBody", {})
            name = body.get("content", {}).get(_JSON, {}).get("schema", {}).get("$ref", "").rpartition("/")[2]
            if name in schemas and not schemas[name].get("required"):
                body["required"] = False


def _add_limits(document: dict[str, Any]) -> None:
    """The headers of a tenant's limits under every answer that carries them."""
    document["components"]["headers"] = {
        name: {"description": text, "schema": {"type": "string"}} for name, text in _LIMIT_HEADERS.items()
    }
    headers = {name: {"$ref": f"#/components/headers/{name}"} for name in _LIMIT_HEADERS}
    for operations in document["paths"].values():
        for operation in operations.values():
            if operation.get("security") == SECURITY:
                for answer in operation["responses"].values():
                    if "$ref" not in answer:
                        answer["headers"] = answer.get("headers", {}) | headers
    for answer in document["components"]["responses"].values():
        answer["headers"] = headers


def _problem_answer(status: str, examples: dict[str, Any]) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/ProblemObject"}
    content = {PROBLEM_JSON: {"schema": schema, "examples": examples}}
    return {"description": HTTPStatus(int(status)).phrase, "content": content}


def _describe_problem(schema: dict[str, Any]) -> None:
    schema["properties"]["code"]["examples"] = list(PROBLEMS)
    schema["properties"]["type"] |= {"format": "uri-reference", "description": "The problem's page."}
    schema["example"] = problem_example("invalid_size", PROBLEMS["invalid_size"])


def problem_example(code: str, problem: Problem) -> dict[str, Any]:
    """What an answer with this code looks like."""
    field = "size" if code == "invalid_size" else None
    example: dict[str, Any] = {
        "type": problem.type_uri or f"{HOST}/problems#{code}",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.title,
        "instance": "/v1/jobs",
        "code": code,
        "request_id": "req_0123456789abcdef01234567",
        "error": {"message": problem.title, "type": problem.openai_type, "param": field, "code": code},
    }
    return {**example, "field": field} if field else example

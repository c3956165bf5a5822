"""Pieces of the OpenAPI document that routes share."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from flask_openapi.models.tag import Tag
from pydantic import BaseModel

from api.errors import PROBLEM_JSON
from api.schema import ProblemObject

JOBS = Tag(name="Jobs", description="Pictures as jobs: hand in, look, wait, cancel.")
OPENAI = Tag(name="OpenAI", description="Works with OpenAI's own clients: change `base_url` and nothing else.")
BATCHES = Tag(name="Batches", description="A product list in, the same list with links out.")
ACCOUNT = Tag(name="Account", description="Keys, sessions, usage.")
OPERATIONS = Tag(name="Operations", description="Probes and metrics.")

#: Either a key or, for the page, a session; a service without keys on localhost asks for neither.
SECURITY: list[dict[str, list[Any]]] = [{"bearer": []}, {"session": []}, {}]
ADMIN_SECURITY: list[dict[str, list[Any]]] = [{"bearer": []}]


def json_of(*models: type[BaseModel]) -> dict[str, Any]:
    """An answer that is one of these, each of which some route has as its only one, so that it is in the document."""
    references = [{"$ref": f"#/components/schemas/{model.__name__}"} for model in models]
    return {"content": {"application/json": {"schema": {"anyOf": references}}}}


def problems(*statuses: int) -> dict[str | int | HTTPStatus, Any]:
    """Error answers of a route, each as problem+json."""
    return {status: {"content": {PROBLEM_JSON: {"schema": _problem_reference()}}} for status in statuses}


def _problem_reference() -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{ProblemObject.__name__}"}


#: What any route under /v1 may answer.
COMMON = (400, 401, 403, 503)
EVENT_STREAM = {"content": {"text/event-stream": {"schema": {"type": "string"}}}, "description": "Server-sent events"}

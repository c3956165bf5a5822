"""Pieces of the OpenAPI document that routes share."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from flask_openapi.blueprint import APIBlueprint
from flask_openapi.models.schema import Schema
from flask_openapi.models.tag import Tag
from flask_openapi.openapi import OpenAPI
from flask_openapi.utils import get_model_schema
from pydantic import BaseModel

from api.errors import PROBLEM_JSON
from api.objects import ProblemObject

JOBS = Tag(name="Jobs", description="Pictures as jobs: hand in, look, wait, cancel.")
OPENAI = Tag(name="OpenAI", description="Works with OpenAI's own clients: change `base_url` and nothing else.")
PICTURES = Tag(name="Pictures", description="One address for each, without a key: for pages, importers and people.")
BATCHES = Tag(name="Batches", description="A product list in, the same list with links out.")
ACCOUNT = Tag(name="Account", description="Keys, sessions, usage.")
WEBHOOKS = Tag(name="Webhooks", description="Signed events by Standard Webhooks, tried again for three days.")
ADMIN = Tag(name="Admin", description="The operator's: tenants, queue, workers, dead letters. Needs the admin key.")
OPERATIONS = Tag(name="Operations", description="Probes and metrics.")

#: Either a key or, for the page, a session; a service without keys on localhost asks for neither.
SECURITY: list[dict[str, list[Any]]] = [{"bearer": []}, {"session": []}, {}]
ADMIN_SECURITY: list[dict[str, list[Any]]] = [{"bearer": []}]


def json_of(*models: type[BaseModel]) -> dict[str, Any]:
    """An answer that is one of these, each of which some route has as its only one, so that it is in the document."""
    references = [{"$ref": f"#/components/schemas/{model.__name__}"} for model in models]
    return {"content": {"application/json": {"schema": {"anyOf": references}}}}


NOT_CHANGED = {"description": "Not changed"}


def problems(*statuses: int) -> dict[str | int | HTTPStatus, Any]:
    """Error answers of a route, each as problem+json."""
    return {status: {"content": {PROBLEM_JSON: {"schema": _problem_reference()}}} for status in statuses}


def _problem_reference() -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{ProblemObject.__name__}"}


#: What any route under /v1 may answer.
COMMON = (400, 401, 403, 429, 503)


def stream_of(*names: str) -> dict[str, Any]:
    """A stream of server-sent events with these names, as OpenAPI 3.2 describes it; `data` is JSON."""
    item = {
        "type": "object",
        "required": ["data"],
        "properties": {
            "event": {"type": "string", "enum": list(names)},
            "data": {"type": "string", "contentMediaType": "application/json"},
            "id": {"type": "string"},
        },
    }
    return {"content": {"text/event-stream": {"itemSchema": item}}, "description": "Server-sent events"}


def image_events() -> dict[str, Any]:
    """OpenAI's events of a streamed picture."""
    return stream_of("image_generation.completed", "error")


EVENT_STREAM = stream_of("status", "progress", "output", "error")


def routes(name: str, tag: Tag, security: list[dict[str, list[Any]]] | None = None) -> APIBlueprint:
    """A blueprint whose routes are documented alike; `security` None for routes that belong to nobody."""
    return APIBlueprint(
        name,
        __name__,
        abp_tags=[tag],
        abp_security=security,
        abp_responses=problems(*COMMON) if security is not None else None,
        operation_id_callback=_operation_id,
    )


def _operation_id(*, bp_name: str = "", name: str = "", path: str = "", method: str = "") -> str:
    """Short names, since they become the functions of generated clients."""
    return f"{bp_name}_{name}"


def add_schemas(app: OpenAPI, *models: type[BaseModel]) -> None:
    """Put models, and those that they are made of, into the document of `app`."""
    for model in models:
        schema = get_model_schema(model, mode="serialization")
        for name, part in {**schema.pop("$defs", {}), model.__name__: schema}.items():
            app.components_schemas[name] = Schema(**part)

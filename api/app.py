"""The Flask application: which routes there are, and what holds for all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask_openapi.openapi import OpenAPI

from api import docs, errors, security
from api.account import account, sign_up
from api.accounts import keys, session, usage
from api.admin import admin
from api.admin_service import admin_service
from api.admin_webhooks import admin_webhooks
from api.batches import batches
from api.context import Services
from api.docs import docs as docs_routes
from api.images import images
from api.jobs import jobs
from api.models import models
from api.objects import ImagesResponse, ProblemObject
from api.openapi_parts import add_schemas
from api.ops import ops, service_registry
from api.page import page
from api.pictures import pictures
from api.strict_json import JSON_BYTES_MOST, ZimgRequest
from api.webhooks import webhooks

FORM_PARTS_MOST = 32


#: With a part in the OpenAPI document, in its order.
DESCRIBED = (
    jobs, pictures, images, models, batches, keys, session, sign_up, usage, account, webhooks, admin, admin_service,
    admin_webhooks, ops,
)  # fmt: skip
UNDESCRIBED = (page, docs_routes)


def create_app(parts: Services) -> OpenAPI:
    """The application around the parts of one process."""
    app = _empty_app()
    app.extensions["zimg"] = parts
    app.extensions["zimg-registry"] = service_registry(parts)
    security.install(app, parts.settings.cors_origins)
    errors.install(app)
    for blueprint in DESCRIBED:
        app.register_api(blueprint)
    add_schemas(app, ImagesResponse)
    for plain in UNDESCRIBED:
        app.register_blueprint(plain)
    return app


def _empty_app() -> OpenAPI:
    """No routes yet: how the document is headed, how requests are bounded and answers written."""
    app = OpenAPI(
        "api",
        info=docs.INFO,
        security_schemes=docs.SECURITY_SCHEMES,
        doc_ui=False,
        static_folder=None,
        validation_error_status=400,
        validation_error_model=ProblemObject,
        validation_error_callback=errors.refuse_invalid,
    )
    app.request_class = ZimgRequest
    app.ensure_sync = _as_it_is  # type: ignore[method-assign, assignment]
    app.url_map.merge_slashes = False
    app.config.update(
        MAX_CONTENT_LENGTH=JSON_BYTES_MOST, MAX_FORM_MEMORY_SIZE=JSON_BYTES_MOST, MAX_FORM_PARTS=FORM_PARTS_MOST
    )
    app.json.ensure_ascii = False  # type: ignore[attr-defined]
    app.json.sort_keys = False  # type: ignore[attr-defined]
    return app


def _as_it_is(function: Callable[..., Any]) -> Callable[..., Any]:
    """No handler here is async; Flask would look at each of them for each request."""
    return function

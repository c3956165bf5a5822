"""/v1/admin/webhook-failures, what the operator does about them: send a tenant's event again."""

from __future__ import annotations

from typing import Annotated

from flask import Response
from pydantic import ConfigDict, Field, StrictStr

from api import schema
from api.auth import require_admin
from api.context import services
from api.openapi_parts import ADMIN, ADMIN_SECURITY, problems, routes
from api.webhooks import require_on
from core.errors import NotFound

admin_webhooks = routes("admin_webhooks", ADMIN, ADMIN_SECURITY)
admin_webhooks.before_request(require_admin)

DELIVERY_ID = "whd_9f2c41d0b7e84a7c8d5e6f0a1b2c3d4e"


class Resend(schema.Exact):
    """Which delivery goes again."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"delivery_id": DELIVERY_ID}})

    delivery_id: Annotated[
        StrictStr, Field(max_length=64, description="As the list of failures names it.", examples=[DELIVERY_ID])
    ]


@admin_webhooks.post(
    "/v1/admin/webhook-failures/resend",
    summary="Send a failed event again",
    description="At once, and with all its tries; also one that was given up. An endpoint that is off must be turned "
    "on first, by its owner.",
    responses={204: None, **problems(404, 409)},
)
def resend(body: Resend) -> Response:
    hooks = services().webhooks
    delivery = hooks.delivery(body.delivery_id)
    endpoint = hooks.endpoint(delivery.endpoint_id) if delivery else None
    if delivery is None or endpoint is None:
        raise NotFound("There is no such delivery.")
    require_on(endpoint)
    hooks.resend(delivery)
    return Response(status=204)

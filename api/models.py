"""GET /v1/models: this service's models, the default one first, in OpenAI's form, with the sizes that suit them."""

from __future__ import annotations

from flask import Response, jsonify
from pydantic import BaseModel

from api import objects
from api.auth import require_tenant
from api.context import Services, services
from api.openapi_parts import OPENAI, SECURITY, problems, routes
from api.submitting import no_such_model
from core.errors import NotFound
from core.model_profile import ModelProfile

models = routes("models", OPENAI, SECURITY)
models.before_request(require_tenant)

#: OpenAI's field is when a model was made; this is when Z-Image-Turbo was published.
CREATED = 1_764_115_200


class ModelPath(BaseModel):
    """A model's id."""

    model_id: str


@models.get("/v1/models", summary="List models", responses={200: objects.ModelList})
def list_models() -> Response:
    parts = services()
    return jsonify(objects.ModelList(data=[model_object(parts, one) for one in parts.profiles]).model_dump())


@models.get("/v1/models/<model_id>", summary="Look at a model", responses={200: objects.ModelObject, **problems(404)})
def look(path: ModelPath) -> Response:
    parts = services()
    profile = next((one for one in parts.profiles if one.id == path.model_id), None)
    if profile is None:
        raise NotFound(no_such_model(parts, path.model_id))
    return jsonify(model_object(parts, profile).model_dump())


def model_object(parts: Services, profile: ModelProfile) -> objects.ModelObject:
    """A model that this service draws with."""
    shapes = {"square": profile.square, "portrait": profile.portrait, "landscape": profile.landscape}
    written = {name: f"{width}x{height}" for name, (width, height) in shapes.items()}
    return objects.ModelObject(
        id=profile.id,
        created=CREATED,
        owned_by="zimg",
        revision=profile.revision,
        default_size=written["square"],
        shapes=written,
        preset=parts.settings.preset,
    )

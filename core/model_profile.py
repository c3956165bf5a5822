"""What the api must know of a model without loading it: its name, default size and the page's three shapes."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from core.errors import ConfigurationError
from core.settings import Settings

#: Limits of every request, in pixels (the transformer patches 16 x 16 pixels into one token).
SIZE_MULTIPLE, SIZE_LEAST, SIZE_MOST, PIXELS_MOST = 16, 256, 1536, 1_048_576


@dataclass(frozen=True, slots=True)
class ModelProfile:
    """`id` is what /v1/models lists; shapes are (width, height) for square, portrait and landscape."""

    id: str
    revision: str
    square: tuple[int, int]
    portrait: tuple[int, int]
    landscape: tuple[int, int]

    @property
    def default_size(self) -> tuple[int, int]:
        return self.square


Z_IMAGE_TURBO = ModelProfile("z-image-turbo", "main", (1024, 1024), (864, 1152), (1152, 864))


def read_profile(model: str) -> ModelProfile:
    """The profile in `<folder>/zimg.json`, or Z-Image-Turbo's for a hub id or a folder without one."""
    path = Path(model) / "zimg.json"
    if not path.is_file():
        return Z_IMAGE_TURBO
    data = json.loads(path.read_text())
    return ModelProfile(
        id=data["id"],
        revision=data["revision"],
        square=tuple(data["square"]),
        portrait=tuple(data["portrait"]),
        landscape=tuple(data["landscape"]),
    )


#: What may be part of a Redis key and of a queue's name.
MODEL_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def further_profiles(settings: Settings) -> tuple[ModelProfile, ...]:
    """The profiles of ZIMG_MODELS, in their order. Raises ConfigurationError where two would have one id."""
    profiles = tuple(read_profile(model) for model in settings.models)
    for model, profile in zip(settings.models, profiles, strict=True):
        if sum(one.id == profile.id for one in profiles) > 1 or not MODEL_ID.fullmatch(profile.id):
            raise ConfigurationError(
                f"ZIMG_MODELS: {model!r} needs an id of its own, of letters, digits and ._-; name a folder whose "
                "zimg.json says it"
            )
    return profiles


def queue_of(settings: Settings) -> str:
    """The queue of a worker that draws with ZIMG_MODEL: its id if that is a further model, "" for the default one."""
    own = read_profile(settings.model).id
    return own if any(own == profile.id for profile in further_profiles(settings)) else ""

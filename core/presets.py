"""Named, versioned generation presets: the locked parameters live here and nowhere else.

A *forward* is one pass of the transformer. With diffusers 0.42 `num_inference_steps=N` runs exactly N forwards of
Z-Image-Turbo (versions up to 0.38 ran a wasted last one), so steps and forwards agree here. The model was distilled
for 8 forwards; 4 are enough for most prompts. Guidance above 0 would double the work and is off.
"""

from __future__ import annotations

from dataclasses import dataclass

from core.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Preset:
    """The locked parameters of a picture; `name` stands in the job, the PNG and the fingerprint."""

    name: str
    forwards: int
    guidance_scale: float


PRESETS = {
    "turbo": Preset(name="turbo", forwards=4, guidance_scale=0.0),
    "turbo-8": Preset(name="turbo-8", forwards=8, guidance_scale=0.0),
}


def find_preset(name: str) -> Preset:
    """The preset of that name; raises ConfigurationError naming those that exist."""
    try:
        return PRESETS[name]
    except KeyError:
        raise ConfigurationError(f"ZIMG_PRESET={name!r} is not one of {', '.join(PRESETS)}") from None

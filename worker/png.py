"""A picture as PNG bytes that follow from the request alone: the same request and seed, the same bytes."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from core import __version__
from core.job import GenerationRequest
from core.model_profile import ModelProfile
from core.presets import find_preset

#: zlib's fastest: pictures hardly shrink further, and a higher level costs ten times the time.
ZLIB_LEVEL = 1


@dataclass(frozen=True, slots=True)
class EncodedPicture:
    """PNG bytes and their SHA-256 in hex."""

    png: bytes
    sha256: str


def encode_png(image: Image.Image, request: GenerationRequest, profile: ModelProfile) -> EncodedPicture:
    """Encode with what made the picture as text, and nothing of the job, the clock or the machine."""
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=ZLIB_LEVEL, pnginfo=_text(request, profile))
    png = out.getvalue()
    return EncodedPicture(png, hashlib.sha256(png).hexdigest())


def _text(request: GenerationRequest, profile: ModelProfile) -> PngInfo:
    info = PngInfo()
    fields = {
        "prompt": request.prompt,
        "seed": str(request.seed),
        "preset": request.preset,
        "model": f"{profile.id}@{profile.revision}",
        "Software": f"zimg {__version__}",
        "parameters": describe_parameters(request, profile),
    }
    for name, value in fields.items():
        info.add_itxt(name, value) if not value.isascii() else info.add_text(name, value)
    return info


def describe_parameters(request: GenerationRequest, profile: ModelProfile) -> str:
    """As AUTOMATIC1111's web UI writes it, so that the tools people have read prompt and seed."""
    preset = find_preset(request.preset)
    return (
        f"{request.prompt}\nSteps: {preset.forwards}, Sampler: Euler, CFG scale: {preset.guidance_scale:g}, "
        f"Seed: {request.seed}, Size: {request.width}x{request.height}, Model: {profile.id}, "
        f"Version: zimg {__version__}"
    )

"""A picture as PNG bytes that follow from the request alone: the same request and seed, the same bytes."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from core import __version__
from core.job import GenerationRequest
from core.model_profile import ModelProfile
from core.presets import find_preset
from worker import xmp
from worker.label import put_label

#: zlib's fastest: pictures hardly shrink further, and a higher level costs ten times the time.
ZLIB_LEVEL = 1
SOFTWARE = f"zimg {__version__}"


#: Where an engine may name how it decoded, if not in one piece: a key of the image's `info`.
DECODE_MODE = "decode_mode"


@dataclass(frozen=True, slots=True)
class EncodedPicture:
    """PNG bytes and their SHA-256 in hex."""

    png: bytes
    sha256: str


@dataclass(frozen=True, slots=True)
class Marking:
    """The labels of GB 45438-2025: the implicit one where a `producer` is named, the visible one where wanted."""

    producer: str = ""
    visible: bool = False


NO_MARKING = Marking()


def encode_png(
    image: Image.Image, request: GenerationRequest, profile: ModelProfile, *, marking: Marking = NO_MARKING
) -> EncodedPicture:
    """Encode with what made the picture as text, and nothing of the job, the clock or the machine."""
    out = io.BytesIO()
    marked = put_label(image) if marking.visible else image
    marked.save(out, "PNG", compress_level=ZLIB_LEVEL, pnginfo=_text(image, request, profile, marking.producer))
    png = out.getvalue()
    return EncodedPicture(png, hashlib.sha256(png).hexdigest())


def _text(image: Image.Image, request: GenerationRequest, profile: ModelProfile, producer: str) -> PngInfo:
    info, decode_mode = PngInfo(), str(image.info.get(DECODE_MODE, ""))
    fields = {
        "prompt": request.prompt,
        "seed": str(request.seed),
        "preset": request.preset,
        "model": f"{profile.id}@{profile.revision}",
        "Software": SOFTWARE,
        "parameters": describe_parameters(request, profile, decode_mode=decode_mode),
        **({"variation": request.variation} if request.variation else {}),
    }
    for name, value in fields.items():
        info.add_itxt(name, value) if not value.isascii() else info.add_text(name, value)
    info.add_itxt(xmp.KEYWORD, xmp.packet(_marks(request, profile, producer)))
    return info


def _marks(request: GenerationRequest, profile: ModelProfile, producer: str) -> xmp.Marks:
    return xmp.Marks(
        prompt=request.prompt,
        system=profile.id,
        version=profile.revision,
        creator_tool=SOFTWARE,
        producer=producer,
        produce_id=hashlib.sha256(request.to_json().encode()).hexdigest()[:32],  # the same picture, the same number
    )


def describe_parameters(request: GenerationRequest, profile: ModelProfile, *, decode_mode: str = "") -> str:
    """As AUTOMATIC1111's web UI writes it, so that the tools people have read prompt and seed."""
    preset = find_preset(request.preset)
    decoded = f"Decode: {decode_mode}, " if decode_mode else ""
    # Quoted as that web UI quotes a value that may hold a comma.
    varied = f"Variation: {json.dumps(request.variation, ensure_ascii=False)}, " if request.variation else ""
    return (
        f"{request.prompt}\nSteps: {preset.forwards}, Sampler: Euler, CFG scale: {preset.guidance_scale:g}, "
        f"Seed: {request.seed}, Size: {request.width}x{request.height}, Model: {profile.id}, {varied}{decoded}"
        f"Version: {SOFTWARE}"
    )

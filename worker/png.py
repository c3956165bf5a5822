"""A picture as PNG bytes that follow from the request alone: the same request and seed, the same bytes.

Pillow tries five filters on every row, which takes 100 ms of a picture of a megapixel, and its filters can not be
chosen. One filter and zlib's run-length strategy give as small a file in a quarter of that
(`python -m benchmarks.picture_end`); so the rows are packed here, and Pillow's own functions write the chunks.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.PngImagePlugin import PngInfo, putchunk

from core import __version__
from core.job import GenerationRequest
from core.model_profile import ModelProfile
from core.presets import find_preset
from worker import xmp
from worker.label import put_label

#: "\x89PNG" and the lines that show what a transfer has done to them (PNG specification, 5.2).
SIGNATURE = b"\x89PNG\r\n\x1a\n"
#: Bits per channel, RGB, and the only compression, filters and order there are or that are used (11.2.1).
FORM = (8, 2, 0, 0, 0)
#: Each row as what differs from the row above (9.2): drawn pictures and noise shrink best or equally well by it.
UP = 2
#: A picture's bytes depend on it, so it is no setting and follows no machine.
STRETCHES = 4
#: Deflate with a window of 32 KiB, fastest level, no dictionary (RFC 1950, 2.2).
ZLIB_HEADER = b"\x78\x01"
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
    marked = put_label(image) if marking.visible else image
    png = write_png(marked, _text(image, request, profile, marking.producer))
    return EncodedPicture(png, hashlib.sha256(png).hexdigest())


def write_png(image: Image.Image, text: PngInfo) -> bytes:
    """The picture in eight bits of RGB, its text before its pixels."""
    out = io.BytesIO()
    out.write(SIGNATURE)
    putchunk(out, b"IHDR", struct.pack(">2I5B", *image.size, *FORM))
    for name, data, *_ in text.chunks:
        putchunk(out, name, data)
    putchunk(out, b"IDAT", _packed_rows(np.asarray(image.convert("RGB"))))
    putchunk(out, b"IEND", b"")
    return out.getvalue()


def _packed_rows(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Rows [height, width, 3] filtered and compressed, in stretches that are packed at the same time.

    Each stretch but the last ends on a whole byte (a full flush), so that they make one zlib stream (RFC 1950).
    """
    values = pixels.reshape(len(pixels), -1)
    rows = np.full((len(values), 1 + values.shape[1]), UP, np.uint8)
    rows[0, 1:] = values[0]
    cuts = sorted({len(values) * part // STRETCHES for part in range(STRETCHES + 1)})

    def pack(first: int, end: int) -> bytes:
        below = max(first, 1)
        np.subtract(values[below:end], values[below - 1 : end - 1], out=rows[below:end, 1:])  # bytes wrap (PNG, 9.2)
        packer = zlib.compressobj(level=1, wbits=-zlib.MAX_WBITS, memLevel=9, strategy=zlib.Z_RLE)
        last = zlib.Z_FINISH if end == len(values) else zlib.Z_FULL_FLUSH
        return packer.compress(rows[first:end].data) + packer.flush(last)

    with ThreadPoolExecutor(STRETCHES) as pool:
        packed = b"".join(pool.map(pack, cuts, cuts[1:]))
    return ZLIB_HEADER + packed + struct.pack(">I", zlib.adler32(rows.data))


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

"""What a zimg PNG says of itself, read with the standard library alone."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

SIGNATURE = b"\x89PNG\r\n\x1a\n"
TEXT_BYTES_MOST = 1 << 20


@dataclass(frozen=True, slots=True)
class PictureParameters:
    """What draws the picture again; `texts` has everything that the file says."""

    prompt: str
    seed: int
    size: str
    texts: dict[str, str]


def read_parameters(png: bytes) -> PictureParameters:
    """The parameters of a picture of ours; raises ValueError for any other file."""
    texts, size = _texts(png)
    if "prompt" not in texts or not texts.get("seed", "").isdigit():
        raise ValueError("the file is a PNG, but says neither prompt nor seed; was it edited, or drawn elsewhere?")
    return PictureParameters(texts["prompt"], int(texts["seed"]), size, texts)


def _texts(png: bytes) -> tuple[dict[str, str], str]:
    if not png.startswith(SIGNATURE):
        raise ValueError("the file is not a PNG")
    texts: dict[str, str] = {}
    size, at = "", len(SIGNATURE)
    while at + 12 <= len(png):
        length, kind = struct.unpack_from(">I4s", png, at)
        data = png[at + 8 : at + 8 + length]
        if kind == b"IHDR" and len(data) >= 8:
            size = "{}x{}".format(*struct.unpack_from(">II", data))
        elif kind in (b"tEXt", b"iTXt"):
            name, text = _text(kind, data)
            texts[name] = text
        at += 12 + length
    return texts, size


def _text(kind: bytes, data: bytes) -> tuple[str, str]:
    name, _, rest = data.partition(b"\0")
    if kind == b"tEXt":
        return name.decode("latin-1"), rest.decode("latin-1")
    is_packed, rest = rest[:1] == b"\1", rest[2:]
    text = rest.split(b"\0", 2)[-1]  # after language and translated keyword
    if is_packed:
        try:
            text = zlib.decompressobj().decompress(text, TEXT_BYTES_MOST)
        except zlib.error:
            text = b""
    return name.decode("latin-1"), text.decode(errors="replace")

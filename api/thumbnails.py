"""Small WebP copies of pictures, made when asked for and kept in memory for a while."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Callable

from PIL import Image, ImageFilter

#: Widths that are made; a wish for another gets the next larger one.
WIDTHS = (160, 320, 640, 1024)
#: The first that is small enough is taken; most pictures are with the first, noise and fine patterns are not.
QUALITIES = (78, 60, 40, 20, 5)
#: 200 thumbnails of a history, 320 wide, stay below 5 MB; other widths have as much for each pixel.
BYTES_AT_320 = 24_000
#: What is still too large after these is noise: its finest grain goes.
_BLUR = {40: 0.7, 20: 1.0}
CACHE_BYTES_MOST = 64 * 1024 * 1024
#: Making one takes a core for some 30 ms; more at once would only starve the other threads.
AT_ONCE = 2


def snap(width: int) -> int:
    """The width that is made for a wish."""
    return next((made for made in WIDTHS if made >= width), WIDTHS[-1])


def shrink(png: bytes, width: int) -> bytes:
    """The picture as WebP, at most `width` pixels wide, never enlarged."""
    with Image.open(io.BytesIO(png)) as picture:
        height = max(1, round(picture.height * width / picture.width))
        small = picture.convert("RGB")
        if width < picture.width:
            small = small.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0)
    for quality in QUALITIES:
        out = io.BytesIO()
        small.save(out, "WEBP", quality=quality, method=4)
        if out.tell() <= bytes_most(width):
            return out.getvalue()
        small = small.filter(ImageFilter.GaussianBlur(_BLUR[quality])) if quality in _BLUR else small
    return out.getvalue()


def bytes_most(width: int) -> int:
    """How large a thumbnail of this width may be."""
    return BYTES_AT_320 * width * width // (320 * 320)


class Thumbnails:
    """Keeps what was made, up to a bound in bytes; what was used longest ago goes first. Thread-safe."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self._making = threading.BoundedSemaphore(AT_ONCE)

    def get(self, sha256: str, width: int, read_png: Callable[[], bytes]) -> bytes:
        """The thumbnail of the picture with this checksum."""
        key = (sha256, width)
        found = self._look(key)
        if found is None:
            png = read_png()
            with self._making:
                found = self._look(key) or shrink(png, width)
            self._keep(key, found)
        return found

    def _look(self, key: tuple[str, int]) -> bytes | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def _keep(self, key: tuple[str, int], data: bytes) -> None:
        with self._lock:
            if key not in self._kept:
                self._kept[key] = data
                self._bytes += len(data)
            while self._bytes > CACHE_BYTES_MOST:
                _, gone = self._kept.popitem(last=False)
                self._bytes -= len(gone)

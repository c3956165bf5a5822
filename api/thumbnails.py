"""Small WebP copies of pictures, made when asked for and kept in memory for a while."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Callable

from PIL import Image

#: Widths that are made; a wish for another gets the next larger one.
WIDTHS = (160, 320, 640, 1024)
QUALITY = 78
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
        out = io.BytesIO()
        small.save(out, "WEBP", quality=QUALITY, method=4)
        return out.getvalue()


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

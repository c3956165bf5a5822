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
#: By quality: how large a usual picture comes out, as a share of the first; what can not be small enough is not tried.
QUALITIES = {78: 1.0, 66: 0.75, 54: 0.62, 40: 0.51, 30: 0.42, 20: 0.33, 10: 0.22, 5: 0.15}
HOPELESS = 1.4
#: 200 thumbnails of a history stay below 5 MB: those that a history loads (320, on fine screens 640) have so much each.
#: The other widths, for what is not a long list, have as much for each pixel as the nearer of the two.
HISTORY_WIDTHS, HISTORY_BYTES = (320, 640), 24_000
#: What is still too large after these is noise: its finest grain goes.
_BLUR = {40: 0.7, 20: 1.0, 10: 1.5}
CACHE_BYTES_MOST = 64 * 1024 * 1024
#: Making one takes a core for 30 to 150 ms; more at once would only starve the other threads.
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
    return _encode(small, bytes_most(width))


def _encode(picture: Image.Image, most: int) -> bytes:
    """As good as `most` bytes allow."""
    at_full_share = 0.0
    data = b""
    for quality, share in QUALITIES.items():
        if at_full_share * share <= most * HOPELESS or quality == min(QUALITIES):
            data = _webp(picture, quality)
            if len(data) <= most:
                return data
            at_full_share = len(data) / share
        if quality in _BLUR:
            picture = picture.filter(ImageFilter.GaussianBlur(_BLUR[quality]))
            at_full_share = 0.0
    return data


def _webp(picture: Image.Image, quality: int) -> bytes:
    out = io.BytesIO()
    picture.save(out, "WEBP", quality=quality, method=4)
    return out.getvalue()


def bytes_most(width: int) -> int:
    """How large a thumbnail of this width may be."""
    least, most = HISTORY_WIDTHS
    return HISTORY_BYTES * width**2 // min(most, max(least, width)) ** 2


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

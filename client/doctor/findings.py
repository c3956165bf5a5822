"""What a check found, and what every check may look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from ..client import DEFAULT_URL

State = Literal["ok", "warning", "failed", "skipped"]
GIB = 1 << 30
DEFAULT_BUDGET_GIB = 5.8


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; `fix` says what to do, and is "" where nothing needs doing."""

    name: str
    state: State
    detail: str
    fix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Where to look. `root` is the machine's own root folder and `checkout` zimg's; a test puts others there."""

    environ: Mapping[str, str] = field(default_factory=dict)
    root: Path = Path("/")
    url: str = DEFAULT_URL
    is_named: bool = False  # somebody said that the service is there
    checkout: Path = Path(__file__).parents[2]

    @property
    def data_dir(self) -> Path:
        return Path(self.environ.get("ZIMG_DATA_DIR") or "data").expanduser()

    @property
    def model(self) -> str:
        """The one that is named, else what `make run` takes; "" where another machine may be the one that draws."""
        if named := self.environ.get("ZIMG_MODEL"):
            return named
        if self.is_elsewhere or not (self.checkout / "core" / "settings.py").is_file():
            return ""
        return str(self.checkout / "models" / "starter")

    @property
    def is_elsewhere(self) -> bool:
        """Another machine may be the one that draws."""
        try:
            host = urlsplit(self.url).hostname or ""
        except ValueError:
            return True
        return host not in ("127.0.0.1", "::1", "localhost")

    @property
    def budget_bytes(self) -> int:
        """GPU memory that one worker may use; a value that is no number is another check's finding."""
        try:
            return int(float(self.environ.get("ZIMG_VRAM_BUDGET_GIB") or DEFAULT_BUDGET_GIB) * GIB)
        except ValueError:
            return int(DEFAULT_BUDGET_GIB * GIB)

    @property
    def wants_cpu(self) -> bool:
        return self.environ.get("ZIMG_DEVICE") == "cpu"

    @property
    def wants_cuda(self) -> bool:
        return self.environ.get("ZIMG_DEVICE", "").startswith("cuda")


def ok(name: str, detail: str) -> Finding:
    """Nothing to do."""
    return Finding(name, "ok", detail)


def warning(name: str, detail: str, fix: str) -> Finding:
    """It works, but not as well as it could."""
    return Finding(name, "warning", detail, fix)


def failed(name: str, detail: str, fix: str) -> Finding:
    """zimg will not work like this."""
    return Finding(name, "failed", detail, fix)


def skipped(name: str, detail: str) -> Finding:
    """Could not be looked at, or does not matter here."""
    return Finding(name, "skipped", detail)


def gib(size: float) -> str:
    """Bytes for a person."""
    return f"{size / GIB:.1f} GiB" if size >= GIB / 10 else f"{size / (1 << 20):.0f} MiB"

"""The admin key that a service's first start put into a file of its machine: where that lies, never what it holds."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from .doctor.findings import Surroundings

CHECKOUT = Path(__file__).parents[1]


def find_first_key(url: str, environ: Mapping[str, str], *, beside: Path = CHECKOUT) -> Path | None:
    """The file, if the service is on this machine and the file lies in its data folder; None where there is none.

    That folder is ZIMG_DATA_DIR, else `data` here, else `data` of the clone that the command is part of.
    """
    around = Surroundings(environ=environ, url=url)
    if around.is_elsewhere:
        return None
    folders = [around.data_dir] if environ.get("ZIMG_DATA_DIR") else [around.data_dir, beside / "data"]
    return next((path for path in (folder / "admin.key" for folder in folders) if _is_file(path)), None)


def own_name() -> str:
    """How this command is called from here: a clone's lies in its folder, an installed one on the PATH."""
    if __package__ != "client":
        return "zimg"
    return "./zimg" if Path.cwd() == CHECKOUT else shlex.quote(str(CHECKOUT / "zimg"))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # another user's folder
        return False

"""Where results are written: looked at before anything is drawn, for what was drawn is charged."""

from __future__ import annotations

import codecs
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"})


def check_pictures(target: Path, count: int) -> None:
    """Raises BadParameter where `count` pictures could not be written to `target`, as PNG files."""
    _check_name(target)
    with _told(target):
        is_file = is_file_name(target)
    if not is_file:
        _check_folder(target)
        return
    if target.suffix.lower() != ".png":  # a file of another kind would hold a PNG all the same
        raise typer.BadParameter(f"pictures are PNG files: write {target.with_suffix('.png')}", param_hint="--out")
    for place in range(1, count + 1):
        check_file(numbered(target, place, count))


def check_file(path: Path) -> None:
    """Raises BadParameter where this file could not be written. Leaves nothing behind."""
    _check_name(path)
    with _told(path):
        if path.exists():
            path.open("ab").close()
            return
        with _folders(path.parent):
            path.open("xb").close()
            path.unlink()


def is_file_name(target: Path) -> bool:
    """A name with a picture's suffix is a file, unless a folder of that name is there; any other is a folder."""
    return target.suffix.lower() in PICTURE_SUFFIXES and not target.is_dir()


def numbered(target: Path, place: int, count: int) -> Path:
    """The file of one of `count` pictures; `place` is from 1."""
    return target if count == 1 else target.with_name(f"{target.stem}-{place}{target.suffix}")


def standard_input(argument: str) -> bytes:
    """All that comes from standard input in place of `argument`. Raises BadParameter where there is nothing."""
    try:
        data = typer.get_binary_stream("stdin").read().removeprefix(codecs.BOM_UTF8)
    except RuntimeError:  # there is none: a shell's <&-
        raise typer.BadParameter("standard input is closed", param_hint=argument) from None
    if not data.strip():
        raise typer.BadParameter("nothing came from standard input", param_hint=argument)
    return data


def _check_name(path: Path) -> None:
    if str(path) == "-":  # as other programs call their standard output; here that tells where the results are
        raise typer.BadParameter("nothing is written to standard output: name a file or a folder", param_hint="--out")


def _check_folder(folder: Path) -> None:
    if folder.is_file():
        raise typer.BadParameter(
            f"{folder} is a file and no picture: name a folder, or a file that ends with .png", param_hint="--out"
        )
    with _told(folder), _folders(folder), tempfile.TemporaryFile(dir=folder):
        pass


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise typer.BadParameter(f"{path} can not be written ({error.strerror or error})", param_hint="--out") from None


@contextmanager
def _folders(folder: Path) -> Iterator[None]:
    """The folder is there for as long as the block lasts."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        for one in missing:
            one.rmdir()

"""The page at / and the files it is made of: plain modules, no build, nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path

from flask import Blueprint, Response, send_from_directory

page = Blueprint("page", __name__)

STATIC = Path(__file__).parent / "static"
#: Files change with a deployment: browsers keep them, and ask whether they are still the same.
CACHE_CONTROL = "no-cache"


@page.get("/")
def index() -> Response:
    """The page."""
    return _file("index.html")


@page.get("/account")
def account() -> Response:
    """One's own account."""
    return _file("account.html")


@page.get("/admin")
def admin() -> Response:
    """The operator's page; what it shows needs the admin key."""
    return _file("admin.html")


@page.get("/static/<path:name>")
def static_file(name: str) -> Response:
    """Scripts, styles, icons."""
    return _file(name)


@page.get("/favicon.ico")
def favicon() -> Response:
    """For browsers that ask without being told."""
    return _file("icon.svg")


def _file(name: str) -> Response:
    response = send_from_directory(STATIC, name, conditional=True)
    response.headers["Cache-Control"] = CACHE_CONTROL
    return response

"""`python -m api`: the api under gunicorn, as in production."""

from __future__ import annotations

import sys

from gunicorn.app.wsgiapp import run


def main() -> None:
    """Serve until SIGTERM."""
    sys.argv = ["gunicorn", "--config", "python:api.gunicorn_config", "api.wsgi:app"]
    run()


if __name__ == "__main__":
    main()

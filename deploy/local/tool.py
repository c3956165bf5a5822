"""Run an operator's command on the service of a data folder, whose Redis has a port and a password of its own.

    python -m deploy.local.tool --data-dir data scheduler.auditor --repair
    python -m deploy.local.tool --data-dir data scheduler.ledger export --day 2026-11-28

Exit status: the command's own; 2 where the folder holds no service that it could ask.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from core.errors import ConfigurationError
from deploy.local.embedded import valkey_url
from deploy.local.supervisor_config import PROGRAMS_FILE

COMMANDS = ("scheduler.auditor", "scheduler.ledger")
FILES = (PROGRAMS_FILE, "ports.json", "secrets.json")


def service_environment(data_dir: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` with the REDIS_URL of the folder's service, unless it names one. Raises ConfigurationError."""
    found = {**environ, "ZIMG_DATA_DIR": str(data_dir)}
    if not environ.get("REDIS_URL"):
        found["REDIS_URL"] = _own_redis(data_dir)
    return found


def _own_redis(data_dir: Path) -> str:
    try:
        programs, ports, keys = (json.loads((data_dir / name).read_text()) for name in FILES)
        url = valkey_url(int(ports["redis"]), password=str(keys["redis_password"]))
    except OSError as error:
        why = f"{error.filename}: {error.strerror}"
        raise ConfigurationError(
            f"Found no zimg in {data_dir} ({why}). Name the data folder of the service: DATA_DIR="
        ) from None
    except (ValueError, KeyError, TypeError):
        raise ConfigurationError(
            f"Can not read {', '.join(FILES)} in {data_dir}. Name the service by REDIS_URL."
        ) from None
    if "redis" not in programs:
        raise ConfigurationError(f"The service of {data_dir} was started with a REDIS_URL. Say the same one now.")
    return url


def main() -> NoReturn:
    """Become the command; exits with 2 where that can not be."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.local.tool", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="the command's own")
    options = parser.parse_args()
    try:
        environ = service_environment(options.data_dir.expanduser().resolve(), os.environ)
    except ConfigurationError as error:
        print(f"zimg: {error}", file=sys.stderr)
        sys.exit(2)
    command = [sys.executable, "-m", options.command, *options.arguments]
    os.execve(command[0], command, environ)  # noqa: S606 - to become it is the point


if __name__ == "__main__":
    main()

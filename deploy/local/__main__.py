"""`python -m deploy.local --port 8080 --data-dir data`: the whole service in the foreground."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from deploy.local.launcher import launch


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m deploy.local", description=__doc__)
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--stop-with-parent", action="store_true", help="stop when the process that started this ends")
    options = parser.parse_args()
    return launch(
        port=options.port,
        data_dir=options.data_dir,
        stop_with_parent=options.stop_with_parent,
        environ=dict(os.environ),
    )


if __name__ == "__main__":
    sys.exit(main())

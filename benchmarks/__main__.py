"""Every benchmark that needs no GPU, one after the other: `python -m benchmarks`, some ten minutes."""

from __future__ import annotations

import argparse
import subprocess
import sys

#: Module and arguments; benchmarks/README.md says what each shows.
BENCHMARKS = (
    ("benchmarks.startup", "--starts", "3"),
    ("benchmarks.api_latency", "--rate", "100", "--seconds", "20", "--streams", "200"),
    ("benchmarks.api_latency", "--rate", "100", "--seconds", "20", "--queued", "100000", "--keys", "20"),
    ("benchmarks.queue_throughput",),
    ("benchmarks.queue_scale",),
)


def main() -> int:
    """The number of benchmarks that failed."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    failed = 0
    for module, *arguments in BENCHMARKS:
        print(f"== python -m {' '.join([module, *arguments])}", flush=True)
        failed += subprocess.run([sys.executable, "-m", module, *arguments], check=False).returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())

"""Fixtures shared by all tests; each kind of server has its own file under tests/fixtures/."""

import os

# Several processes draw side by side on few cores; OpenMP threads that spin while they wait for one another then take
# ten times as long as one thread each. Set before anybody imports torch, and inherited by the services under test.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import gc
import signal

# A shell that runs tests in the background has Ctrl-C ignored, and every process started here would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# What is imported and collected stays to the end. Looking through it for garbage is a quarter of the work of
# collecting, and would slow down every later look.
gc.disable()

pytest_plugins = [
    "tests.fixtures.order",
    "tests.fixtures.tools",
    "tests.fixtures.redis",
    "tests.fixtures.s3",
    "tests.fixtures.stack",
    "tests.fixtures.warm",
    "tests.fixtures.browser",
]


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()

"""Fixtures shared by all tests; each kind of server has its own file under tests/fixtures/."""

import signal

# A shell that runs tests in the background has Ctrl-C ignored, and every process started here would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = [
    "tests.fixtures.order",
    "tests.fixtures.tools",
    "tests.fixtures.redis",
    "tests.fixtures.s3",
    "tests.fixtures.stack",
    "tests.fixtures.browser",
]

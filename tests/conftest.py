"""Fixtures shared by all tests; each kind of server has its own file under tests/fixtures/."""

pytest_plugins = [
    "tests.fixtures.tools",
    "tests.fixtures.redis",
    "tests.fixtures.s3",
    "tests.fixtures.stack",
    "tests.fixtures.browser",
]

"""The same tests of the state machine as in tests/unit/core/queue, on real servers with an append-only file."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import redis

from deploy.local.embedded import valkey_binary
from tests.fixtures.redis import KEEPS_HISTORY, running_server
from tests.fixtures.s3 import S3Server
from tests.queue_kit import Kit
from tests.queue_processes import Fleet
from tests.warm_python import WarmPython, warm_python

#: Recovery in seconds instead of minutes; the ratios are those of the defaults.
QUICK = {"ZIMG_LEASE_SECONDS": "2", "ZIMG_CLAIM_SECONDS": "3"}


@pytest.fixture(params=["valkey", "redis_server"])
def queue_redis(request: pytest.FixtureRequest) -> redis.Redis:
    client: redis.Redis = request.getfixturevalue(request.param)
    return client


@pytest.fixture
def kit(queue_redis: redis.Redis) -> Kit:
    return Kit(queue_redis)


@pytest.fixture(scope="session")
def light_python() -> Iterator[WarmPython]:
    with warm_python("light") as started:
        yield started


@pytest.fixture
def fleet(tmp_path: Path, light_python: WarmPython) -> Iterator[Fleet]:
    """Processes on a Valkey of their own; the objects that workers make lie in `objects`."""
    objects = tmp_path / "objects"
    objects.mkdir()
    with running_server(str(valkey_binary()), *KEEPS_HISTORY) as server:
        fleet = Fleet(server, tmp_path, {**QUICK, "STUB_FOLDER": str(objects)}, python=light_python)
        try:
            yield fleet
        finally:
            fleet.close()


@pytest.fixture
def real_fleet(tmp_path: Path, s3_server: S3Server, s3_environment: Mapping[str, str]) -> Iterator[Fleet]:
    """Processes on a Valkey of their own, for workers that draw and an S3 that keeps what they drew."""
    faults = tmp_path / "faults"
    faults.mkdir()
    s3 = {**s3_environment, "S3_BUCKET": "zimg"}
    quick = {"ZIMG_LEASE_SECONDS": "3", "ZIMG_CLAIM_SECONDS": "5", "ZIMG_CONCURRENCY": "2"}
    with running_server(str(valkey_binary()), *KEEPS_HISTORY) as server:
        fleet = Fleet(server, tmp_path, {**s3, **quick, "FAULTS": str(faults)}, read_stored=s3_server.read)
        try:
            yield fleet
        finally:
            fleet.close()

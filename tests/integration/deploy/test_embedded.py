"""The embedded Redis and S3 keep what they confirmed, whatever ends them."""

import os
import signal
import subprocess
import time

import boto3
import botocore.exceptions
import pytest
import redis
from botocore.config import Config

from core.job import Lane
from deploy.local import embedded
from deploy.local.ports import choose_ports
from tests.fixtures.stack import wait_until
from tests.queue_kit import GENEROUS, Kit, make_job

KEYS = {"access_key": "tests-access-key", "secret_key": "tests-secret-key-of-some-length"}


class Valkey:
    def __init__(self, data_dir) -> None:
        self.port = choose_ports(["redis"])["redis"]
        self.process = subprocess.Popen(
            embedded.valkey_command(data_dir, self.port, password="word"), stdout=subprocess.DEVNULL
        )
        self.client = redis.Redis.from_url(embedded.valkey_url(self.port, password="word"), decode_responses=True)
        wait_until(self.answers, seconds=20)

    def answers(self) -> bool:
        try:
            return self.client.ping()
        except redis.ConnectionError:
            return False

    def end(self, number: signal.Signals) -> None:
        self.process.send_signal(number)
        self.process.wait(timeout=60)


class SeaweedFS:
    def __init__(self, data_dir) -> None:
        ports = embedded.choose_seaweedfs_ports()
        environment = embedded.seaweedfs_environment(ports, **KEYS)
        self.process = subprocess.Popen(
            embedded.seaweedfs_command(data_dir, ports), env={**os.environ, **environment},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.url = environment["S3_ENDPOINT_URL"]
        self.client = self.make_client(KEYS["secret_key"])
        wait_until(self.answers, seconds=30)

    def make_client(self, secret_key: str):
        return boto3.client(
            "s3", endpoint_url=self.url, region_name=embedded.REGION,
            aws_access_key_id=KEYS["access_key"], aws_secret_access_key=secret_key,
            config=Config(signature_version="s3v4", s3={"addressing_style": "path"}, retries={"max_attempts": 0}),
        )  # fmt: skip

    def answers(self) -> bool:
        try:
            self.client.head_bucket(Bucket="zimg")
        except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError):
            return False
        return True

    def end(self, number: signal.Signals) -> None:
        self.process.send_signal(number)
        self.process.wait(timeout=60)


@pytest.fixture
def started():
    """Collects servers and ends them after the test."""
    servers: list = []
    yield lambda server: servers.append(server) or server
    for server in servers:
        if server.process.poll() is None:
            server.end(signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_valkey_has_every_confirmed_write_after_it_was_ended(tmp_path, started, number):
    first = started(Valkey(tmp_path))
    for index in range(500):
        first.client.rpush("list", index)
    first.end(number)

    second = started(Valkey(tmp_path))

    assert second.client.llen("list") == 500


def test_valkey_refuses_whoever_lacks_the_password(tmp_path, started):
    server = started(Valkey(tmp_path))

    with pytest.raises(redis.AuthenticationError):
        redis.Redis.from_url(embedded.valkey_url(server.port)).ping()


def test_valkey_refuses_writes_rather_than_throwing_jobs_away(tmp_path, started):
    server = started(Valkey(tmp_path))

    assert server.client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
    assert server.client.config_get("appendfsync")["appendfsync"] == "always"


@pytest.mark.parametrize(("lane", "bytes_most"), [(Lane.INTERACTIVE, 3_000), (Lane.BATCH, 1_800)])
def test_a_waiting_job_takes_little_of_its_memory(tmp_path, started, lane, bytes_most):
    """With a key and a batch; a server as it comes takes 6.5 and 2.1 kB."""
    client = started(Valkey(tmp_path)).client
    kit = Kit(client)
    kit.queued()  # the scripts are there

    def submit(count):
        jobs = [make_job(lane=lane, batch_id="b", idempotency_key=f"k#{n}", body_hash="0" * 64) for n in range(count)]
        kit.store.submit_many(jobs, GENEROUS)

    before = client.info("memory")["used_memory"]
    submit(400)

    assert (client.info("memory")["used_memory"] - before) / 400 < bytes_most


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_storage_has_every_confirmed_object_after_it_was_ended_and_moved_to_other_ports(tmp_path, started, number):
    first = started(SeaweedFS(tmp_path))
    for index in range(20):
        first.client.put_object(Bucket="zimg", Key=f"a/{index}.png", Body=bytes([index]) * 50_000)
    first.end(number)

    second = started(SeaweedFS(tmp_path))

    for index in range(20):
        body = read_object(second.client, f"a/{index}.png")
        assert body == bytes([index]) * 50_000


def read_object(client, key: str) -> bytes:
    """The object; SeaweedFS answers InternalError for a moment after a hard end, as clients must expect."""
    deadline = time.monotonic() + 20
    while True:
        try:
            return client.get_object(Bucket="zimg", Key=key)["Body"].read()
        except botocore.exceptions.ClientError:
            if time.monotonic() > deadline:
                raise


def test_storage_writes_an_object_once(tmp_path, started):
    server = started(SeaweedFS(tmp_path))
    server.client.put_object(Bucket="zimg", Key="once.png", Body=b"first", IfNoneMatch="*")

    with pytest.raises(botocore.exceptions.ClientError, match="PreconditionFailed"):
        server.client.put_object(Bucket="zimg", Key="once.png", Body=b"second", IfNoneMatch="*")

    assert read_object(server.client, "once.png") == b"first"


def test_storage_refuses_a_wrong_secret(tmp_path, started):
    server = started(SeaweedFS(tmp_path))

    with pytest.raises(botocore.exceptions.ClientError, match="SignatureDoesNotMatch"):
        server.make_client("wrong").list_objects_v2(Bucket="zimg")

"""Redis behind TLS and behind Sentinel, by REDIS_URL alone: scheduler, broker, worker and client."""

import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from kombu import pools

from core.broker import broker_url, make_celery, publish
from core.errors import ConfigurationError, RedisUnavailable
from core.job_store import JobStore
from core.redis_client import connect, sentinel_address
from core.settings import Settings
from deploy.local.embedded import valkey_binary
from tests.fixtures.redis import RedisServer, free_port, running_server
from tests.fixtures.tools import require_tool
from tests.integration.queue.conftest import QUICK
from tests.integration.queue.test_processes import assert_all_well, runs, submit
from tests.queue_kit import GENEROUS, make_job
from tests.queue_processes import Fleet, wait_until


class TlsServer(RedisServer):
    """A server that speaks nothing but TLS, with a certificate of an authority of the test's own."""

    @property
    def url(self) -> str:
        return f"rediss://localhost:{self.port}/0?ssl_ca_certs={self.folder / 'ca.crt'}"

    def start(self) -> None:
        for command in (
            "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test-authority -keyout ca.key -out ca.crt",
            "req -newkey rsa:2048 -nodes -subj /CN=zimg -addext subjectAltName=DNS:localhost -keyout s.key -out s.csr",
            "x509 -req -days 2 -in s.csr -CA ca.crt -CAkey ca.key -CAcreateserial -copy_extensions copy -out s.crt",
        ):
            subprocess.run(["openssl", *command.split()], cwd=self.folder, check=True, capture_output=True, timeout=60)
        options = f"--port 0 --tls-port {self.port} --bind 127.0.0.1 --appendonly yes --tls-auth-clients no"
        files = "--tls-cert-file s.crt --tls-key-file s.key --tls-ca-cert-file ca.crt"
        with (self.folder / "server.log").open("ab") as log:
            command = [self.binary, *options.split(), *files.split()]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)
        wait_until(lambda: connect(self.url, timeout_seconds=1).ping(), seconds=10, why=self.log)

    def log(self) -> str:
        return (self.folder / "server.log").read_text()[-2000:]


@pytest.fixture
def tls_fleet(tmp_path):
    require_tool("openssl")
    server = TlsServer(binary=require_tool("redis-server"), port=free_port(), folder=tmp_path)
    server.start()
    with fleet_on(server, tmp_path) as fleet:
        yield fleet


@contextmanager
def fleet_on(server, folder):
    (folder / "objects").mkdir()
    fleet = Fleet(server, folder, {**QUICK, "STUB_FOLDER": str(folder / "objects")})
    try:
        yield fleet
    finally:
        fleet.close()
        server.kill()


def test_the_whole_queue_works_over_tls(tls_fleet):
    fleet = tls_fleet
    fleet.start_scheduler()
    fleet.start_worker(STUB_SECONDS="0.02")

    assert_all_well(fleet, submit(fleet, 30))


def test_a_certificate_of_an_unknown_authority_is_refused_by_client_and_broker(tls_fleet):
    fleet = tls_fleet
    bare = fleet.server.url.partition("?")[0]
    with pytest.raises(RedisUnavailable):
        JobStore(connect(bare, timeout_seconds=2), Settings()).depth()
    job = make_job()
    fleet.store.submit(job, GENEROUS)
    release = release_one(fleet)

    assert publish(make_celery(Settings(redis_url=bare)), [release]) == 0
    pools.reset()  # kombu keeps one pool for all URLs that differ in their query alone
    assert publish(make_celery(Settings(redis_url=fleet.server.url)), [release]) == 1


def release_one(fleet):
    from core.job_store import WorkerInfo

    fleet.store.heartbeat(WorkerInfo(name="w", slots=1))
    [release] = fleet.store.release(1)
    return release


class SentinelUrl(RedisServer):
    """What a Fleet needs of a server, by way of Sentinel."""

    sentinels: str = ""

    @property
    def url(self) -> str:
        return f"sentinel://{self.sentinels}/0?master_name=zimg"


@contextmanager
def sentinels(binary: str, folder: Path, port: int, count: int):
    """`count` sentinels that watch the master at `port`: their addresses."""
    processes, addresses = [], []
    try:
        for number in range(count):
            own, here = free_port(), folder / f"sentinel{number}"
            here.mkdir()
            (here / "s.conf").write_text(
                f"port {own}\nbind 127.0.0.1\ndir {here}\nsentinel monitor zimg 127.0.0.1 {port} {count // 2 + 1}\n"
                "sentinel down-after-milliseconds zimg 1000\nsentinel failover-timeout zimg 5000\n"
            )
            with (here / "log").open("ab") as log:
                processes.append(
                    subprocess.Popen([binary, str(here / "s.conf"), "--sentinel"], stdout=log, stderr=log, cwd=here)
                )
            addresses.append(f"127.0.0.1:{own}")
        yield addresses
    finally:
        for process in processes:
            process.kill()
            process.wait(timeout=10)


@pytest.fixture
def sentinel_fleet(tmp_path):
    """A master, its replica, three sentinels, and a fleet that knows nothing but the sentinels; and the master."""
    binary = str(valkey_binary())
    with running_server(binary) as master, running_server(binary) as replica:
        connect(replica.url).replicaof("127.0.0.1", master.port)
        wait_until(lambda: connect(replica.url).info("replication")["master_link_status"] == "up", seconds=20)
        with sentinels(binary, tmp_path, master.port, 3) as addresses:
            server = SentinelUrl(binary=binary, port=0, folder=tmp_path)
            server.sentinels = ",".join(addresses)
            wait_until(lambda: all(knows_all(one) for one in addresses), seconds=30)
            with fleet_on(server, tmp_path) as fleet:
                yield fleet, master


def knows_all(address):
    seen = connect(f"redis://{address}", timeout_seconds=2).execute_command("SENTINEL", "MASTER", "zimg")
    return (int(seen["num-slaves"]), int(seen["num-other-sentinels"])) == (1, 2)


@pytest.mark.faults
def test_the_queue_follows_a_failover_by_sentinel(sentinel_fleet):
    fleet, master = sentinel_fleet
    fleet.start_scheduler()
    fleet.start_worker(STUB_SECONDS="0.1")
    fleet.await_workers(1)
    ids = submit(fleet, 100)
    wait_until(lambda: len(runs(fleet)) > 10, seconds=30, why=fleet.logs)
    # All that was written is on the replica: a failover may lose the last writes, and those are row 11's.
    fleet.store.pause("lane", "interactive")
    wait_until(lambda: fleet.store.depth().running + fleet.store.depth().released == 0, seconds=20)
    fleet.store.redis.execute_command("WAIT", 1, 5000)
    done = len(runs(fleet))

    master.kill()
    killed = time.monotonic()
    wait_until(lambda: fleet.store.resume("lane", "interactive") is None, seconds=60, why=fleet.logs)
    wait_until(lambda: len(runs(fleet)) > done, seconds=60, why=fleet.logs)
    print(f"\nSentinel: runs again {time.monotonic() - killed:.1f} s after the master was killed")

    assert_all_well(fleet, ids, seconds=90)


def test_a_sentinel_url_says_hosts_master_and_password():
    address = sentinel_address("sentinel://me:p%40ss@a:1,b/3?master_name=zimg")

    assert address.hosts == (("a", 1), ("b", 26379))
    assert (address.master_name, address.db, address.username, address.password) == ("zimg", 3, "me", "p@ss")
    assert broker_url("sentinel://:x@a:1,b:2/0?master_name=z") == "sentinel://:x@a:1/0;sentinel://:x@b:2/0"
    assert sentinel_address("redis://a/0") is None
    with pytest.raises(ConfigurationError, match="master"):
        sentinel_address("sentinel://a:1/0")


def test_the_broker_checks_certificates_unless_told_not_to():
    assert broker_url("rediss://a/0") == "rediss://a/0?ssl_cert_reqs=required"
    assert broker_url("rediss://a/0?ssl_cert_reqs=none") == "rediss://a/0?ssl_cert_reqs=none"
    assert broker_url("redis://a/0") == "redis://a/0"

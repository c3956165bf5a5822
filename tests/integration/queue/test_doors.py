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
from tests.fixtures.redis import KEEPS_HISTORY, RedisServer, free_port, running_server
from tests.fixtures.tools import require_tool
from tests.integration.queue.conftest import QUICK
from tests.integration.queue.test_processes import assert_all_well, runs, submit
from tests.queue_kit import GENEROUS, make_job
from tests.queue_processes import Fleet, wait_until


def make_certificates(folder: Path) -> None:
    """An authority `ca.crt` and, signed by it, `s.crt` for this machine, with their keys."""
    names = "DNS:localhost,IP:127.0.0.1"
    for command in (
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test-authority -keyout ca.key -out ca.crt",
        f"req -newkey rsa:2048 -nodes -subj /CN=zimg -addext subjectAltName={names} -keyout s.key -out s.csr",
        "x509 -req -days 2 -in s.csr -CA ca.crt -CAkey ca.key -CAcreateserial -copy_extensions copy -out s.crt",
    ):
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True, timeout=60)


class TlsServer(RedisServer):
    """A server that speaks nothing but TLS, with a certificate of an authority of the test's own."""

    @property
    def url(self) -> str:
        return f"rediss://localhost:{self.port}/0?ssl_ca_certs={self.folder / 'ca.crt'}"

    def start(self) -> None:
        make_certificates(self.folder)
        options = f"--port 0 --tls-port {self.port} --bind 127.0.0.1 --appendonly yes --tls-auth-clients no"
        files = "--tls-cert-file s.crt --tls-key-file s.key --tls-ca-cert-file ca.crt"
        with (self.folder / "server.log").open("ab") as log:
            command = [self.binary, *options.split(), *files.split()]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)
        wait_until(lambda: connect(self.url, timeout_seconds=1).ping(), seconds=60, why=self.log)

    def log(self) -> str:
        return (self.folder / "server.log").read_text()[-2000:]


@pytest.fixture
def tls_fleet(tmp_path, light_python):
    require_tool("openssl")
    server = TlsServer(binary=require_tool("redis-server"), port=free_port(), folder=tmp_path)
    server.start()
    with fleet_on(server, tmp_path, light_python) as fleet:
        yield fleet


@contextmanager
def fleet_on(server, folder, python):
    (folder / "objects").mkdir()
    fleet = Fleet(server, folder, {**QUICK, "STUB_FOLDER": str(folder / "objects")}, python=python)
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
            process.wait(timeout=60)


@pytest.fixture
def sentinel_fleet(tmp_path, light_python):
    """A master, its replica, three sentinels, and a fleet that knows nothing but the sentinels; and the master."""
    binary = str(valkey_binary())
    with running_server(binary) as master, running_server(binary, *KEEPS_HISTORY) as replica:
        connect(replica.url).replicaof("127.0.0.1", master.port)
        wait_until(lambda: connect(replica.url).info("replication")["master_link_status"] == "up", seconds=20)
        with sentinels(binary, tmp_path, master.port, 3) as addresses:
            # The replica's file holds what both took in: it follows the master from before the first job.
            server = SentinelUrl(binary=binary, port=0, folder=replica.folder)
            server.sentinels = ",".join(addresses)
            wait_until(lambda: all(knows_all(one) for one in addresses), seconds=30)
            with fleet_on(server, tmp_path, light_python) as fleet:
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


class TlsSentinelUrl(SentinelUrl):
    """Sentinel over TLS; the folder holds the authority."""

    @property
    def url(self) -> str:
        return f"sentinels://{self.sentinels}/0?master_name=zimg&ssl_ca_certs={self.folder / 'ca.crt'}"


@contextmanager
def tls_processes(binary: str, folder: Path):
    """A master and a sentinel that watches it, both with TLS alone: the sentinel's address."""
    tls = f"tls-cert-file {folder}/s.crt\ntls-key-file {folder}/s.key\ntls-ca-cert-file {folder}/ca.crt\n"
    common = f"port 0\nbind 127.0.0.1\ntls-auth-clients no\ntls-replication yes\n{tls}"
    master, watcher = free_port(), free_port()
    watch = f"sentinel monitor zimg 127.0.0.1 {master} 1\n"
    processes = []
    try:
        for name, port, more in (("master", master, "appendonly yes\n"), ("watcher", watcher, watch)):
            (folder / name).mkdir()
            here = folder if name == "master" else folder / name  # where tests/queue_history.py looks for its file
            (folder / name / "s.conf").write_text(f"{common}tls-port {port}\ndir {here}\n{more}")
            kind = ["--sentinel"] if name == "watcher" else []
            with (folder / f"{name}.log").open("ab") as log:
                command = [binary, str(folder / name / "s.conf"), *kind]
                processes.append(subprocess.Popen(command, stdout=log, stderr=log, cwd=folder / name))
        yield f"127.0.0.1:{watcher}"
    finally:
        for process in processes:
            process.kill()
            process.wait(timeout=60)


@pytest.fixture
def tls_sentinel_fleet(tmp_path, light_python):
    require_tool("openssl")
    binary = require_tool("redis-server")
    make_certificates(tmp_path)
    with tls_processes(binary, tmp_path) as address:
        server = TlsSentinelUrl(binary=binary, port=0, folder=tmp_path)
        server.sentinels = address
        with fleet_on(server, tmp_path, light_python) as fleet:
            wait_until(connect(server.url).ping, seconds=20, why=fleet.logs)
            yield fleet


def test_the_whole_queue_works_over_sentinel_with_tls(tls_sentinel_fleet):
    fleet = tls_sentinel_fleet
    fleet.start_scheduler()
    fleet.start_worker(STUB_SECONDS="0.02")

    assert_all_well(fleet, submit(fleet, 30))


def test_sentinels_and_servers_of_an_unknown_authority_are_refused_by_client_and_broker(tls_sentinel_fleet):
    fleet = tls_sentinel_fleet
    bare = fleet.server.url.partition("&")[0]
    with pytest.raises(RedisUnavailable):
        JobStore(connect(bare, timeout_seconds=2), Settings()).depth()
    plain = bare.replace("sentinels://", "sentinel://")
    with pytest.raises(RedisUnavailable):
        JobStore(connect(plain, timeout_seconds=2), Settings()).depth()
    fleet.store.submit(make_job(), GENEROUS)
    release = release_one(fleet)

    pools.reset()
    assert publish(make_celery(Settings(redis_url=bare)), [release]) == 0
    pools.reset()
    assert publish(make_celery(Settings(redis_url=fleet.server.url)), [release]) == 1
    pools.reset()


def test_a_sentinels_url_says_whose_certificates_are_believed():
    address = sentinel_address("sentinels://:x@a:1,b:2/0?master_name=z&ssl_ca_certs=/ca.crt")

    assert address.tls == {"ssl_cert_reqs": "required", "ssl_check_hostname": True, "ssl_ca_certs": "/ca.crt"}
    assert broker_url("sentinels://:x@a:1,b:2/0?master_name=z") == "sentinel://:x@a:1/0;sentinel://:x@b:2/0"
    by_address = sentinel_address("sentinels://a/0?master_name=z&ssl_check_hostname=false")
    assert by_address.tls == {"ssl_cert_reqs": "required", "ssl_check_hostname": False}
    unchecked = sentinel_address("sentinels://a/0?master_name=z&ssl_cert_reqs=none")
    assert unchecked.tls == {"ssl_cert_reqs": "none", "ssl_check_hostname": False}
    assert sentinel_address("sentinel://a/0?master_name=z").tls is None
    with pytest.raises(ConfigurationError, match="ssl_cert"):
        sentinel_address("sentinels://a/0?master_name=z&ssl_cert=x")


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

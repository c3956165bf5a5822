"""All settings, read from the environment in one place.

`Settings.from_env()` is the only reader of os.environ in zimg; everything else takes a Settings value.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from urllib.parse import urlsplit

from core.errors import ConfigurationError
from core.presets import find_preset

GIB = 1 << 30
LEDGER_DAYS_LEAST = 45  # a day's usage is kept for 40 days
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
#: A whole burst comes back within a century: the scripts count it in milliseconds, as a whole number.
REFILL_SECONDS_MOST = 100 * 366 * 86_400
MOST = 1_000_000_000  # Redis' scripts count in whole numbers that doubles hold
#: Settings that are one of few words.
CHOICES = {
    "aigc_label": ("on", "off"),
    "charge_hits": ("on", "off"),
    "engine": ("carousel", "plain"),
    "sign_up": ("off", "invite"),
}


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a number may be; `is_open`: more than `least`, not that itself."""

    least: float = 0
    most: float = MOST
    is_open: bool = False

    def check(self, variable: str, value: float) -> None:
        """Raises ConfigurationError that names the variable and what it may be; NaN is nothing that it may be."""
        if math.isfinite(value) and self.least <= value <= self.most and not (self.is_open and value == self.least):
            return
        wanted = f"more than {self.least:g}" if self.is_open else f"{self.least:g} or more"
        limit = "" if self.most == MOST and value <= MOST else f", and at most {self.most:g}"
        raise ConfigurationError(f"{variable}={value}: must be {wanted}{limit}")


POSITIVE, AT_LEAST_ONE, ANY = Bounds(is_open=True), Bounds(1), Bounds()
#: Of every number among the settings. Where 0 is allowed it means: none, never, or as many as there are.
BOUNDS = {
    "gpus": ANY,
    "vram_budget_gib": POSITIVE,
    "concurrency": AT_LEAST_ONE,
    "port": Bounds(1, 65_535),
    "redis_memory_gib": POSITIVE,
    "min_workers": ANY,
    "tenant_daily_units": ANY,
    "tenant_burst_per_second": ANY,
    "tenant_burst": AT_LEAST_ONE,
    "tenant_queued_jobs": ANY,
    "tenant_running_jobs": ANY,
    "queued_jobs": AT_LEAST_ONE,
    "backlog_gib": ANY,
    "backlog_free_disk_gib": ANY,
    "lease_seconds": POSITIVE,
    "claim_seconds": POSITIVE,
    "max_attempts": AT_LEAST_ONE,
    "max_crashes": AT_LEAST_ONE,
    "progress_stale_seconds": POSITIVE,
    "worker_restarts": ANY,
    "drain_seconds": ANY,
    "interactive_deadline_seconds": AT_LEAST_ONE,
    "batch_deadline_seconds": AT_LEAST_ONE,
    "picture_retention_seconds": AT_LEAST_ONE,
    "record_retention_seconds": AT_LEAST_ONE,
    "audit_seconds": ANY,
    "ledger_days": AT_LEAST_ONE,
    "idempotency_seconds": AT_LEAST_ONE,
    "sync_wait_seconds": AT_LEAST_ONE,
    "api_threads": AT_LEAST_ONE,
    "api_redis_timeout_seconds": POSITIVE,
    "request_seconds": POSITIVE,
    "long_waits": AT_LEAST_ONE,
    "address_per_second": ANY,
    "address_burst": AT_LEAST_ONE,
    "address_connections": AT_LEAST_ONE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One process's settings; checked when made, so a wrong value stops the start with a sentence."""

    # The model and the card
    model: str = "models/starter"  # ZIMG_MODEL: a folder in diffusers format or a hub id
    models: tuple[str, ...] = ()  # ZIMG_MODELS: further models of the service, comma-separated; alike in all processes
    device: str = "auto"  # ZIMG_DEVICE: auto, cpu, cuda, cuda:1
    cpu_dtype: str = "auto"  # ZIMG_CPU_DTYPE: auto, float32, bfloat16 (float16 is refused everywhere)
    gpus: int = 0  # ZIMG_GPUS: workers of the local service; 0 = one for each card that can be seen
    vram_budget_gib: float = 5.8  # ZIMG_VRAM_BUDGET_GIB: of the whole process, CUDA context included
    concurrency: int = 4  # ZIMG_CONCURRENCY: jobs that ride at the same time
    preset: str = "turbo"  # ZIMG_PRESET
    compile: str = "auto"  # ZIMG_COMPILE: auto, on, off
    engine: str = "carousel"  # ZIMG_ENGINE: carousel, or plain (no offloading: the whole model lies on the device)
    offload_strategy: str = ""  # ZIMG_OFFLOAD_STRATEGY: a Python file with strategies of the user's own

    aigc_producer: str = ""  # ZIMG_AIGC_PRODUCER: who answers for the pictures; adds GB 45438-2025's implicit label
    aigc_label: str = "off"  # ZIMG_AIGC_LABEL: on = "AI生成" can be read in a corner of each picture

    # Where things are
    host: str = "127.0.0.1"  # ZIMG_HOST
    port: int = 8080  # ZIMG_PORT
    data_dir: Path = Path("data")  # ZIMG_DATA_DIR
    weights_dir: str = ""  # ZIMG_WEIGHTS_DIR: packed weights on disk; "" = data_dir/weights, "off" = none
    log_dir: str = ""  # ZIMG_LOG_DIR: "" = /var/log/z-image where writable, else data_dir/logs
    log_level: str = "INFO"  # ZIMG_LOG_LEVEL
    public_base_url: str = ""  # ZIMG_PUBLIC_BASE_URL: "" = taken from the request
    redis_url: str = "redis://127.0.0.1:6379/0"  # REDIS_URL
    redis_memory_gib: float = 2.0  # ZIMG_REDIS_MEMORY_GIB: of the embedded Redis; a full one takes in nothing new
    s3_endpoint_url: str = ""  # S3_ENDPOINT_URL: "" = AWS
    s3_bucket: str = "zimg"  # S3_BUCKET

    # Who may do what
    admin_key: str = ""  # ZIMG_ADMIN_KEY
    sign_up: str = "off"  # ZIMG_SIGN_UP: off, or invite (whoever has a code that the operator made)
    min_workers: int = 1  # ZIMG_MIN_WORKERS: 0 where workers scale to zero
    tenant_daily_units: int = 100_000  # ZIMG_TENANT_DAILY_UNITS: default limits of a tenant without its own
    charge_hits: str = "off"  # ZIMG_CHARGE_HITS: on = a picture that was drawn already costs a unit like a new one
    tenant_burst_per_second: float = 100.0  # ZIMG_TENANT_BURST_PER_SECOND
    tenant_burst: int = 2_000  # ZIMG_TENANT_BURST
    tenant_queued_jobs: int = 20_000  # ZIMG_TENANT_QUEUED_JOBS
    tenant_running_jobs: int = 1_000  # ZIMG_TENANT_RUNNING_JOBS
    queued_jobs: int = 200_000  # ZIMG_QUEUED_JOBS: for each model of the service

    # Finished pictures that wait for the storage
    backlog_gib: float = 2.0  # ZIMG_BACKLOG_GIB: a worker that keeps more of them on disk draws no more
    backlog_free_disk_gib: float = 1.0  # ZIMG_BACKLOG_FREE_DISK_GIB: nor with less free on that disk

    # The life of a job
    lease_seconds: float = 30.0  # ZIMG_LEASE_SECONDS: renewed at a third of it
    claim_seconds: float = 60.0  # ZIMG_CLAIM_SECONDS: a released job nobody claimed is queued again
    max_attempts: int = 5  # ZIMG_MAX_ATTEMPTS
    max_crashes: int = 3  # ZIMG_MAX_CRASHES: leases that ran out while the job ran alone
    progress_file: str = ""  # ZIMG_PROGRESS_FILE: a worker touches it while it is well; "" = data_dir/worker.progress
    progress_stale_seconds: float = 60.0  # ZIMG_PROGRESS_STALE_SECONDS: a worker whose file stands still is killed
    worker_restarts: int = 3  # ZIMG_WORKER_RESTARTS: by its own parent, in ten minutes; 0 = others restart it
    drain_seconds: float = 15.0  # ZIMG_DRAIN_SECONDS: a stopping worker finishes what it can
    interactive_deadline_seconds: int = 3_600  # ZIMG_INTERACTIVE_DEADLINE_SECONDS
    batch_deadline_seconds: int = 86_400  # ZIMG_BATCH_DEADLINE_SECONDS
    picture_retention_seconds: int = 30 * 86_400  # ZIMG_PICTURE_RETENTION_SECONDS
    record_retention_seconds: int = 60 * 86_400  # ZIMG_RECORD_RETENTION_SECONDS
    audit_seconds: float = 600.0  # ZIMG_AUDIT_SECONDS: how often one of the schedulers audits the queue; 0 = never
    ledger_days: int = 400  # ZIMG_LEDGER_DAYS: how long the bill's entries stay in Redis; export them before that
    idempotency_seconds: int = 86_400  # ZIMG_IDEMPOTENCY_SECONDS

    # The api
    sync_wait_seconds: int = 120  # ZIMG_SYNC_WAIT_SECONDS: how long a synchronous picture may take
    api_threads: int = 320  # ZIMG_API_THREADS
    api_redis_timeout_seconds: float = 2.0  # ZIMG_API_REDIS_TIMEOUT_SECONDS: then the answer is a 503
    request_seconds: float = 15.0  # ZIMG_REQUEST_SECONDS: within it a head is here, within four times a body
    long_waits: int = 240  # ZIMG_LONG_WAITS: streams, ?wait and synchronous pictures open at once
    trusted_proxies: tuple[str, ...] = ("127.0.0.1", "::1")  # ZIMG_TRUSTED_PROXIES: whose X-Forwarded-For is believed
    address_per_second: float = 50.0  # ZIMG_ADDRESS_PER_SECOND: requests of one address without a proxy; 0 = any
    address_burst: int = 200  # ZIMG_ADDRESS_BURST: requests that it may make at once
    address_connections: int = 100  # ZIMG_ADDRESS_CONNECTIONS: open ones of one address
    cors_origins: tuple[str, ...] = ()  # ZIMG_CORS_ORIGINS: comma-separated
    webhook_allow: tuple[str, ...] = ()  # ZIMG_WEBHOOK_ALLOW: hosts and networks inside that webhooks may reach
    block_list: str = ""  # ZIMG_BLOCK_LIST: a file of words and /expressions/ that prompts may not hold

    def __post_init__(self) -> None:
        find_preset(self.preset)
        if self.cpu_dtype not in ("auto", "float32", "bfloat16"):
            raise ConfigurationError(
                f"ZIMG_CPU_DTYPE={self.cpu_dtype!r}: use auto, float32 or bfloat16. float16 overflows in this model "
                "and draws black pictures, so it is refused."
            )
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ConfigurationError(f"ZIMG_{name.upper()}={getattr(self, name)!r}: use {' or '.join(choices)}")
        for name, bounds in BOUNDS.items():
            bounds.check(f"ZIMG_{name.upper()}", getattr(self, name))
        if self.log_level.upper() not in LOG_LEVELS:
            raise ConfigurationError(f"ZIMG_LOG_LEVEL={self.log_level!r}: use {', '.join(LOG_LEVELS)}")
        self._check_burst()
        self._check_redis_url()
        self._check_proxies()
        if self.ledger_days < LEDGER_DAYS_LEAST:
            raise ConfigurationError(f"ZIMG_LEDGER_DAYS must be {LEDGER_DAYS_LEAST} or more: usage is proved by it")

    def _check_burst(self) -> None:
        """As of a tenant's own limits (`scheduler.quota.check_limits`)."""
        if 0 < self.tenant_burst_per_second < self.tenant_burst / REFILL_SECONDS_MOST:
            raise ConfigurationError(
                f"ZIMG_TENANT_BURST_PER_SECOND={self.tenant_burst_per_second}: must be larger (a whole burst would "
                "take more than a century to come back), or 0 for any rate"
            )

    def _check_redis_url(self) -> None:
        """A password with `/`, `#` or `?` in it tears the address apart; it is not quoted, since it may be a secret."""
        try:
            _ = urlsplit(self.redis_url).port
        except ValueError:
            raise ConfigurationError(
                "REDIS_URL can not be read. Its password may hold letters, digits, - and _ (openssl rand -hex 24); "
                "write others as %2F and the like."
            ) from None

    def _check_proxies(self) -> None:
        for network in self.trusted_proxies:
            try:
                ip_network(network, strict=False)
            except ValueError:
                raise ConfigurationError(f"ZIMG_TRUSTED_PROXIES: {network!r} is no address and no network") from None

    @property
    def own_url(self) -> str:
        """Where this machine itself reaches the api; a service bound to every address is at none of its own."""
        host = "127.0.0.1" if self.host in ("", "0.0.0.0", "::") else self.host  # noqa: S104 - not bound to here
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def first_key_file(self) -> Path:
        """Where the first start puts the admin key that it makes, if one is needed and none was given."""
        return self.data_dir / "admin.key"

    @property
    def has_first_key(self) -> bool:
        """Whether it lies there, whole."""
        try:
            return self.first_key_file.stat().st_size > 0
        except OSError:
            return False

    @property
    def is_loopback(self) -> bool:
        """Bound to this machine alone, so that requests without a key may belong to the tenant `local`."""
        return self.host in ("127.0.0.1", "::1", "localhost")

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the environment; raises ConfigurationError naming the variable that can not work."""
        env = os.environ if environ is None else environ
        values: dict[str, object] = {}
        for name, field in cls.__dataclass_fields__.items():
            variable = _VARIABLES.get(name, f"ZIMG_{name.upper()}")
            if env.get(variable, "") != "":
                values[name] = _parse(variable, env[variable], field.default)
        return cls(**values)  # type: ignore[arg-type]


_VARIABLES = {"redis_url": "REDIS_URL", "s3_endpoint_url": "S3_ENDPOINT_URL", "s3_bucket": "S3_BUCKET"}


def _parse(variable: str, text: str, default: object) -> object:
    """`text` as the type of `default`."""
    if isinstance(default, tuple):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if isinstance(default, Path):
        return Path(text).expanduser()
    if isinstance(default, int | float) and not isinstance(default, bool):
        try:
            return type(default)(text)
        except ValueError:
            raise ConfigurationError(f"{variable}={text!r} is not a number") from None
    return text

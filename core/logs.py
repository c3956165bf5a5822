"""Logs: JSON lines on stderr, and errors once more in `error.log`, rotated safely for several processes.

A finished request is one INFO line with exactly `ts, level, request_id, duration_ms`. Prompts and secrets are never
logged: `_forget_private` drops the fields that could hold them, whoever passes them.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog
from concurrent_log_handler import ConcurrentRotatingFileHandler
from structlog.typing import EventDict, WrappedLogger

from core.settings import Settings

DEFAULT_LOG_DIR = Path("/var/log/z-image")
ERROR_LOG_BYTES = 10 * 1024 * 1024
ERROR_LOG_FILES = 5
PRIVATE_FIELDS = frozenset({"prompt", "authorization", "api_key", "key", "secret", "token", "password", "cookie"})

#: The logger of the one line per request; nothing else is logged under its name.
REQUEST = "request"


def get_logger(name: str) -> Any:
    """A structlog logger; its values become fields of the JSON line."""
    return structlog.get_logger(name)


def configure_logging(settings: Settings) -> None:
    """Set up this process's logging once, before anything logs. Safe to call again."""
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        _forget_private,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        structlog.processors.format_exc_info,
    ]
    formatter = _Formatter(
        foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers = [_stderr_handler(formatter), _error_file_handler(settings, formatter)]
    root.setLevel(settings.log_level.upper())
    # Celery tells of each task twice; a job has its one line from the executor.
    for chatty in ("urllib3", "botocore", "boto3", "PIL", "filelock", "celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def log_request(*, request_id: str, seconds: float) -> None:
    """The one INFO line of a finished request or job: its id and how long it took, nothing else.

    It is made here and goes past structlog, which took a tenth of a whole request's time for it.
    """
    requests = logging.getLogger(REQUEST)
    if not requests.isEnabledFor(logging.INFO):
        return
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    line = json.dumps(
        {"ts": now, "level": "info", "request_id": request_id, "duration_ms": round(seconds * 1000, 1)},
        ensure_ascii=False,
    )
    requests.handle(logging.LogRecord(REQUEST, logging.INFO, "", 0, line, None, None))


class _Formatter(structlog.stdlib.ProcessorFormatter):
    """structlog's, but a request's line is whole already."""

    def format(self, record: logging.LogRecord) -> str:
        return str(record.msg) if record.name == REQUEST else super().format(record)


def error_log_path(settings: Settings) -> Path:
    """Where `error.log` lies: ZIMG_LOG_DIR, else /var/log/z-image where that is writable, else the data folder."""
    if settings.log_dir:
        return Path(settings.log_dir) / "error.log"
    folder = DEFAULT_LOG_DIR
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        folder = settings.data_dir / "logs"
    if not os.access(folder, os.W_OK):
        folder = settings.data_dir / "logs"
    return folder / "error.log"


def _stderr_handler(formatter: logging.Formatter) -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    return handler


def _error_file_handler(settings: Settings, formatter: logging.Formatter) -> logging.Handler:
    path = error_log_path(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = ConcurrentRotatingFileHandler(
        str(path), maxBytes=ERROR_LOG_BYTES, backupCount=ERROR_LOG_FILES, encoding="utf-8"
    )
    handler.setLevel(logging.ERROR)
    handler.setFormatter(formatter)
    return handler


def _forget_private(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {name: value for name, value in event.items() if name.lower() not in PRIVATE_FIELDS}

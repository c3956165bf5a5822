"""A Python that has imported what is heavy and forks on demand: a worker then starts in a second of work, not in six.

Only packages of others are imported before the fork. Our own code is imported after it, in its own environment, by
`runpy`, as `python -m` does it. That `python -m worker` starts by itself is proven by tests/acceptance.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
#: With all that they import in turn; none of them starts a thread, which a fork would leave behind.
LIGHT = ("boto3", "celery.bin.worker", "kombu.transport.redis")  # what schedulers and workers without a model need
HEAVY = ("torch._inductor.runtime.cache_dir_utils", *LIGHT, "PIL.Image")
CLASSES = {
    "diffusers": ("ZImagePipeline", "ZImageTransformer2DModel", "AutoencoderKL", "FlowMatchEulerDiscreteScheduler"),
    "transformers": ("Qwen3Model", "AutoTokenizer"),
}


@dataclass
class WarmProcess:
    """A fork, as subprocess.Popen shows a process."""

    pid: int
    _python: WarmPython
    returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._python.ask(poll=self.pid)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        deadline = time.monotonic() + (timeout or float("inf"))
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
            time.sleep(0.02)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@dataclass
class WarmPython:
    """The process that forks. Any thread may use it."""

    _channel: socket.socket
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, module: str, environ: Mapping[str, str], log: Path, arguments: Sequence[str] = ()) -> WarmProcess:
        """`python -m module arguments` in the repository, its output at the end of `log`."""
        request = {"module": module, "arguments": list(arguments), "environ": dict(environ), "log": str(log)}
        return WarmProcess(self.ask(**request), self)

    def ask(self, **request: Any) -> Any:
        with self._lock:
            self._channel.sendall(json.dumps(request).encode() + b"\n")
            return json.loads(_line(self._channel))


@contextmanager
def warm_python(*, light: bool = False) -> Iterator[WarmPython]:
    """Gone after the block; the forks that still run are killed. `light`: without what only models need."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.warm_python", *(["light"] if light else [])], cwd=ROOT, stdin=theirs
        )
        theirs.close()
        try:
            yield WarmPython(ours)
        finally:
            ours.close()
            process.wait(timeout=60)


def _line(channel: socket.socket) -> bytes:
    """What the other side said, b"" when it is gone."""
    read = b""
    while not read.endswith(b"\n"):
        part = channel.recv(65536)
        if not part:
            return b""
        read += part
    return read


def _serve(channel: socket.socket) -> dict[str, Any] | None:
    """Returns in each fork with what it is to run, and in the server when nobody asks any more."""
    forks: set[int] = set()
    while line := _line(channel):
        request = json.loads(line)
        if "module" in request:
            answer = os.fork()
            if answer == 0:
                channel.close()
                return request
            forks.add(answer)
        else:
            pid, status = os.waitpid(request["poll"], os.WNOHANG)
            forks.discard(pid)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        channel.sendall(json.dumps(answer).encode() + b"\n")
    for pid in forks:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return None


def _become(request: dict[str, Any]) -> None:
    """As a fresh process: its environment, its output, nothing to read."""
    os.environ.clear()
    os.environ.update(request["environ"])
    log = os.open(request["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    sys.argv[1:] = request["arguments"]
    gc.unfreeze()


def main() -> None:
    is_light = sys.argv[1:] == ["light"]
    for name in LIGHT if is_light else HEAVY:
        importlib.import_module(name)
    for package, names in () if is_light else CLASSES.items():
        for name in names:
            getattr(importlib.import_module(package), name)
    gc.collect()
    gc.freeze()  # a fork that looked for garbage in what it shares would copy it
    request = _serve(socket.socket(fileno=os.dup(0)))
    if request is not None:
        _become(request)
        runpy.run_module(request["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()

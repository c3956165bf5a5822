"""A Python that has imported what is heavy and forks on demand: a worker then starts in a second of work, not in six.

Only packages of others are imported before the fork. Our own code is imported after it, in its own environment, by
`runpy`, as `python -m` does it. That `python -m worker`, `api` and `scheduler` start by themselves is proven by
tests/acceptance, that `python -m client` does by the tests of its Ctrl-C.
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
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parent.parent
#: With all that they import in turn; none of them starts a thread, which a fork would leave behind.
LIGHT = ("boto3", "celery.bin.worker", "kombu.transport.redis")  # what schedulers and workers without a model need
HEAVY = ("torch._inductor.runtime.cache_dir_utils", *LIGHT, "PIL.Image")
WEB = (
    *("boto3", "flask_cors", "flask_openapi", "flask_openapi_scalar", "flask_openapi_swagger", "gunicorn.app.wsgiapp"),
    *("gunicorn.workers.gthread", "httpx", "limits", "PIL.Image", "prometheus_client", "redis", "structlog"),
    *("concurrent_log_handler", "encodings.idna", "httpcore", "rich.console", "typer._adapters", "typer.rich_utils"),
)  # what the api and the command need
KINDS = {"worker": HEAVY, "light": LIGHT, "web": WEB}
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
class WarmCommand:
    """A fork that reads and says something, as subprocess.Popen shows a process with three pipes."""

    process: WarmProcess
    stdin: IO[bytes]
    stdout: IO[bytes]
    stderr: IO[bytes]

    @property
    def returncode(self) -> int | None:
        return self.process.poll()

    def communicate(self, data: bytes = b"", timeout: float | None = None) -> tuple[bytes, bytes]:
        """What it said on both outputs; it has ended then."""
        with self.stdin, self.stdout, self.stderr, ThreadPoolExecutor(2) as readers:
            out, err = readers.submit(self.stdout.read), readers.submit(self.stderr.read)
            with contextlib.suppress(BrokenPipeError):
                self.stdin.write(data)
                self.stdin.close()
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise
            return out.result(), err.result()


@dataclass
class WarmPython:
    """The process that forks. Any thread may use it."""

    _channel: socket.socket
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, module: str, environ: Mapping[str, str], log: Path, arguments: Sequence[str] = ()) -> WarmProcess:
        """`python -m module arguments` in the repository, its output at the end of `log`."""
        request = {"module": module, "arguments": list(arguments), "environ": dict(environ), "log": str(log)}
        return WarmProcess(self.ask(**request), self)

    def command(self, module: str, environ: Mapping[str, str], cwd: Path, arguments: Sequence[str]) -> WarmCommand:
        """`python -m module arguments` in the folder `cwd`, with a pipe for each of its three streams."""
        request = {"module": module, "arguments": list(arguments), "environ": dict(environ), "cwd": str(cwd)}
        (reads, told), (said, says), (complained, complains) = os.pipe(), os.pipe(), os.pipe()
        try:
            process = WarmProcess(self.ask(streams=(reads, says, complains), **request), self)
        finally:
            for theirs in (reads, says, complains):
                os.close(theirs)
        return WarmCommand(process, os.fdopen(told, "wb"), os.fdopen(said, "rb"), os.fdopen(complained, "rb"))

    def ask(self, streams: Sequence[int] = (), **request: Any) -> Any:
        with self._lock:
            socket.send_fds(self._channel, [json.dumps(request).encode() + b"\n"], streams)
            return json.loads(_line(self._channel))


@contextmanager
def warm_python(kind: str = "worker") -> Iterator[WarmPython]:
    """Gone after the block; the forks that still run are killed. `kind`: one of KINDS."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        environ = {**os.environ, "LC_ALL": "C.UTF-8"}  # what a fork says is UTF-8, wherever the tests run
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.warm_python", kind], cwd=ROOT, stdin=theirs, env=environ
        )
        theirs.close()
        try:
            yield WarmPython(ours)
        finally:
            ours.close()
            process.wait(timeout=60)


def _line(channel: socket.socket, streams: list[int] | None = None) -> bytes:
    """What the other side said, b"" when it is gone; the streams that came along are added to `streams`."""
    read = b""
    while not read.endswith(b"\n"):
        part, came, _, _ = socket.recv_fds(channel, 65536, 3)
        if streams is not None:
            streams += came
        if not part:
            return b""
        read += part
    return read


def _serve(channel: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Returns in each fork with what it is to run, and its streams, and in the server when nobody asks any more."""
    forks: set[int] = set()
    while line := _line(channel, streams := []):
        request = json.loads(line)
        if "module" in request:
            answer = os.fork()
            if answer == 0:
                channel.close()
                return request, streams
            forks.add(answer)
        else:
            pid, status = os.waitpid(request["poll"], os.WNOHANG)
            forks.discard(pid)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        for stream in streams:
            os.close(stream)
        channel.sendall(json.dumps(answer).encode() + b"\n")
    for pid in forks:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return None


def _become(request: dict[str, Any], streams: list[int]) -> None:
    """As a fresh process: its environment, its streams; where none came, its output in a file and nothing to read."""
    os.environ.clear()
    os.environ.update(request["environ"])
    time.tzset()
    if not streams:
        log = os.open(request["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        streams = [os.open(os.devnull, os.O_RDONLY), log, log]
    for target, source in enumerate(streams):
        os.dup2(source, target)
    for source in set(streams):
        os.close(source)
    os.chdir(request.get("cwd", ROOT))
    sys.argv[1:] = request["arguments"]


def main() -> None:
    (kind,) = sys.argv[1:]
    for name in KINDS[kind]:
        importlib.import_module(name)
    for package, names in CLASSES.items() if kind == "worker" else ():
        for name in names:
            getattr(importlib.import_module(package), name)
    gc.collect()
    gc.freeze()  # for good: a fork that looked for garbage in what it shares, if only at its end, would copy it
    asked = _serve(socket.socket(fileno=os.dup(0)))
    if asked is not None:
        request, streams = asked
        _become(request, streams)
        runpy.run_module(request["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()

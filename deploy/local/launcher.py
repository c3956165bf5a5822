"""Start the whole service on this machine, say when it is ready, and stop it again.

The launcher prepares the data folder, starts supervisord (through the exec shim, so that neither outlives the other's
death) and stays in the foreground: it shows how far the start is and turns Ctrl-C and SIGTERM into an orderly stop.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from core import weight_stores
from core.errors import ConfigurationError
from core.settings import Settings
from deploy.local import embedded, exec_shim
from deploy.local.cards import visible_cards
from deploy.local.first_key import FirstKeyNote
from deploy.local.locks import single_service, wait_until_unused
from deploy.local.output_file import keep_output
from deploy.local.plan import make_programs
from deploy.local.ports import is_free, kept_ports
from deploy.local.readiness import ReadinessWatch, StartFailed
from deploy.local.supervisor_config import LOG_FOLDER, RUN_FOLDER, SUPERVISOR, shim_command, write_files

LAST_RUN_SECONDS = 25.0
STOP_SECONDS = 19.0
SOCKET_BYTES = 100  # a socket's path holds 107, and supervisord binds a longer one first
PORT_NAMES = ("redis", *embedded.SEAWEEDFS_PORTS)


def say(text: str) -> None:
    """A line for the person at the terminal; a closed terminal must not keep the service from stopping in order."""
    with contextlib.suppress(OSError):
        print(f"zimg: {text}", flush=True)


@dataclass(slots=True)
class Launcher:
    """One run of the service; `environ` is the caller's environment, handed on to every program."""

    settings: Settings
    environ: Mapping[str, str]
    _supervisor: subprocess.Popen[bytes] | None = None
    _stop_deadline: float | None = None
    _socket_folder: str = ""

    def run(self) -> int:
        """Run until stopped; returns the exit status: 0 after Ctrl-C or SIGTERM, 1 if it failed."""
        data_dir = self.settings.data_dir
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with single_service(data_dir):
            wait_until_unused(data_dir, seconds=LAST_RUN_SECONDS, say=say)
            self._refuse_taken_port()
            try:
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                    signal.signal(number, self._on_signal)
                control_url = self._prepare()
                self._supervisor = self._start()
                if self._stop_deadline is not None:  # a signal came before there was anything to stop
                    self._stop()
                return self._follow(ReadinessWatch(self.settings, control_url, self._supervisor), self._supervisor)
            finally:
                if self._socket_folder:
                    shutil.rmtree(self._socket_folder, ignore_errors=True)

    def _refuse_taken_port(self) -> None:
        host, port = self.settings.host, self.settings.port
        if not is_free(port, "127.0.0.1" if host == "localhost" else host):
            raise ConfigurationError(
                f"Port {port} on {host} is taken by another program. Choose another one: make run PORT={port + 1}"
            )

    def _prepare(self) -> str:
        """Write all files; returns the URL of supervisord's socket."""
        data_dir = self.settings.data_dir
        ports = kept_ports(data_dir / "ports.json", PORT_NAMES, offsets=(0, embedded.GRPC_OFFSET))
        keys = embedded.kept_secrets(data_dir / "secrets.json")
        socket = str(data_dir / RUN_FOLDER / "supervisor.sock")
        if len(socket.encode()) > SOCKET_BYTES:
            self._socket_folder = tempfile.mkdtemp(prefix="zimg-")
            socket = f"{self._socket_folder}/supervisor.sock"
        embedded.remove_seaweedfs_sockets(ports)
        cards = visible_cards(self.environ)
        if len(cards) > 1:
            say(f"{len(cards)} cards: a worker for each (ZIMG_GPUS={len(cards)} by itself; set it to use fewer)")
        write_files(data_dir, make_programs(self.settings, self.environ, ports, keys, cards), socket=socket)
        return f"unix://{socket}"

    def _start(self) -> subprocess.Popen[bytes]:
        data_dir = self.settings.data_dir
        say(f"starting; pictures and jobs lie in {data_dir}, logs in {data_dir / LOG_FOLDER}")
        supervisor = subprocess.Popen(
            shim_command(data_dir, SUPERVISOR),
            env={**self.environ, exec_shim.PARENT: str(os.getpid())},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches the launcher alone, which stops things in order
        )
        assert supervisor.stdout is not None
        keep_output(supervisor.stdout, data_dir / LOG_FOLDER / "start.log")
        return supervisor

    def _follow(self, watch: ReadinessWatch, supervisor: subprocess.Popen[bytes]) -> int:
        try:
            for line in watch.lines(until_stopped=lambda: self._stop_deadline is not None):
                say(line)
        except StartFailed as failure:
            say(str(failure))
            self._stop()
            self._wait(supervisor)
            return 1
        status = self._wait(supervisor, FirstKeyNote(self.settings))
        if self._stop_deadline is not None:
            weight_stores.drop_stores()  # they wait for the next worker, and none will come
            say("stopped")
            return 0
        say(f"the supervisor died ({status}); its programs are gone with it. Nothing is lost: start again.")
        return 1

    def _wait(self, supervisor: subprocess.Popen[bytes], note: FirstKeyNote | None = None) -> int:
        """Wait for supervisord's end; past the deadline of a stop it is killed, and its programs with it."""
        while True:
            for line in note.lines() if note and self._stop_deadline is None else ():
                say(line)
            try:
                return supervisor.wait(timeout=0.5)
            except subprocess.TimeoutExpired:
                if self._stop_deadline is not None and time.monotonic() > self._stop_deadline:
                    say("something did not stop in time and is killed; jobs that ran are queued again")
                    supervisor.kill()
                    return supervisor.wait()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self._stop_deadline is None:
            say("stopping (running pictures are finished or queued again)")
            self._stop()

    def _stop(self) -> None:
        self._stop_deadline = time.monotonic() + STOP_SECONDS
        if self._supervisor is not None and self._supervisor.returncode is None:
            self._supervisor.send_signal(signal.SIGTERM)


def launch(*, port: int, data_dir: Path, stop_with_parent: bool, environ: Mapping[str, str]) -> int:
    """Run the service in the foreground; returns its exit status and prints a sentence when it can not start."""
    if stop_with_parent:
        exec_shim.die_with_parent(signal.SIGTERM)
    changed = {**environ, "ZIMG_PORT": str(port), "ZIMG_DATA_DIR": str(data_dir.expanduser().resolve())}
    try:
        return Launcher(Settings.from_env(changed), changed).run()
    except ConfigurationError as error:
        print(f"zimg: {error}", file=sys.stderr)
    except OSError as error:
        where = error.filename or changed["ZIMG_DATA_DIR"]
        print(
            f"zimg: {where} can not be written or read ({error.strerror}). Nothing is lost: free some space there, or "
            "mend the folder's rights, and start again.",
            file=sys.stderr,
        )
    return 2

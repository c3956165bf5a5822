"""How long a start takes, what each process then weighs, and how long one picture takes through the whole service.

    python -m benchmarks.startup --starts 3

Each start is `python -m deploy.local`, what `make run` ends in, on the same data folder: the first makes the
folder. Memory is resident size and, without pages shared with other processes, proportional size, one picture after
the start. One JSON line per figure.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import psutil

from deploy.local.ports import choose_ports

ROOT = Path(__file__).resolve().parents[1]
READY_SECONDS = 300.0
MIB = 1 << 20


def show(figure: str, **values: object) -> None:
    print(json.dumps({"figure": figure, **values}), flush=True)


def start(data_dir: Path, port: int) -> tuple[subprocess.Popen[bytes], float]:
    """A service that is ready, and the seconds until then."""
    begun = time.monotonic()
    command = [sys.executable, "-m", "deploy.local", "--port", str(port), "--data-dir", str(data_dir)]
    environ = {"ZIMG_MODEL": str(ROOT / "models" / "tiny"), **os.environ}
    launcher = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.DEVNULL)
    while not is_ready(port):
        assert launcher.poll() is None, "the service did not start"
        assert time.monotonic() - begun < READY_SECONDS, "the service is not ready"
        time.sleep(0.05)
    return launcher, time.monotonic() - begun


def is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def draw(port: int, prompt: str) -> float:
    """Seconds from the request to the bytes of the picture."""
    begun = time.monotonic()
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as http:
        job = http.post("/v1/jobs", json={"prompt": prompt}).json()
        while job["status"] not in ("succeeded", "failed"):
            job = http.get(f"/v1/jobs/{job['id']}", params={"wait": 20}).json()
        assert job["status"] == "succeeded", job
        assert http.get(job["images"][0]["url"]).content.startswith(b"\x89PNG")
    return time.monotonic() - begun


def show_memory(launcher: subprocess.Popen[bytes]) -> None:
    """One line per process of the service."""
    family = [psutil.Process(launcher.pid), *psutil.Process(launcher.pid).children(recursive=True)]
    for process in family:
        memory = process.memory_full_info()
        words = [Path(word).name for word in process.cmdline()]
        name = " ".join(word for word in words[:4] if not word.startswith("--"))
        show(
            "memory", process=name, rss_mib=memory.rss // MIB, pss_mib=memory.pss // MIB, threads=process.num_threads()
        )


def stop(launcher: subprocess.Popen[bytes]) -> float:
    begun = time.monotonic()
    launcher.send_signal(signal.SIGTERM)
    launcher.wait(timeout=30)
    return time.monotonic() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=3)
    starts = parser.parse_args().starts
    port = choose_ports(["api"])["api"]
    with tempfile.TemporaryDirectory(prefix="zimg-startup-") as folder:
        seconds = []
        for index in range(starts):
            launcher, took = start(Path(folder) / "data", port)
            seconds.append(took)
            show("start", index=index, seconds=round(took, 2))
            pictures = [draw(port, f"picture {index} {number}") for number in range(4)]
            show(
                "picture",
                first_seconds=round(pictures[0], 2),
                later_median_seconds=round(statistics.median(pictures[1:]), 2),
            )
            if index == starts - 1:
                show_memory(launcher)
            show("stop", seconds=round(stop(launcher), 2))
    show("later starts", worst_seconds=round(max(seconds[1:] or seconds), 2), cores=os.cpu_count())


if __name__ == "__main__":
    main()

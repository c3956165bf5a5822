"""What the whole worker costs beside its engine alone, on the same machine and model, one after the other.

    python -m benchmarks.worker_overhead --folder /tmp/full --pictures 40 --http 20 --out overhead.jsonl

First the library alone: four in flight, then one. Then the whole local service (Redis, S3, api, scheduler, and a worker
with Celery's threads, PNG and upload): the same number of jobs over HTTP, four riding at a time; then requests one by
one, from POST to the picture's bytes. Full-shape random weights are written to the folder first; a folder that holds a
model is taken as it is. `--tiny` tries the script out on a CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from benchmarks import startup
from deploy.local.ports import choose_ports

SUBJECT = "a white ceramic teapot on a pure white background, studio light, product photo"
IN_FLIGHT = 4
CHILD_SECONDS, SETTLE_SECONDS = 500.0, 60.0


def library(pictures: int, alone: int) -> dict[str, Any]:
    """In a child: the worker's engine without the worker."""
    from benchmarks.engine_bench import ride_pictures
    from core.settings import Settings
    from worker.pipeline import load_model, make_engine

    settings = Settings.from_env()
    model = load_model(settings)
    engine: Any = make_engine(settings, model)
    engine.settle()
    width, height = model.profile.default_size
    ride_pictures(engine, IN_FLIGHT, IN_FLIGHT, width, height, "warm")
    rate = ride_pictures(engine, IN_FLIGHT, pictures, width, height, "library")
    seconds = [1 / ride_pictures(engine, 1, 1, width, height, f"alone {number}") for number in range(alone)]
    engine.close()
    return {"images_per_s": round(rate, 4), **spread(seconds)}


def spread(seconds: list[float]) -> dict[str, float]:
    """Mean, p50 and p95 in seconds."""
    ordered = sorted(seconds)
    late = ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))]
    figures = {"mean_s": statistics.mean(ordered), "p50_s": statistics.median(ordered), "p95_s": late}
    return {name: round(value, 4) for name, value in figures.items()}


def service(folder: Path, pictures: int, requests: int) -> dict[str, Any]:
    """The whole service's figures."""
    os.environ["ZIMG_MODEL"] = str(folder)
    port = choose_ports(["api"])["api"]
    with tempfile.TemporaryDirectory(prefix="zimg-overhead-", ignore_cleanup_errors=True) as place:
        os.environ.setdefault("ZIMG_LOG_DIR", f"{place}/logs")
        launcher, ready = startup.start(Path(place) / "data", port)
        try:
            draw_all(port, IN_FLIGHT, "warm")
            wait_until_settled(port)
            rate = pictures / draw_all(port, pictures, "service")
            before = stage_seconds(port)
            seconds = [startup.draw(port, f"request {number} {SUBJECT}") for number in range(requests)]
            stages = {stage: (spent - before[stage]) / requests for stage, spent in stage_seconds(port).items()}
        except Exception:
            for log in sorted(Path(place).rglob("*.log")):
                print(f"== {log.name}\n{log.read_text(errors='replace')[-1500:]}", file=sys.stderr)
            raise
        finally:
            startup.stop(launcher)
    means = {stage: round(mean, 4) for stage, mean in stages.items()}
    return {"images_per_s": round(rate, 4), "ready_s": round(ready, 1), "stages_s": means, **spread(seconds)}


def wait_until_settled(port: int) -> None:
    """Until the worker has ridden its own warm-up, by its heartbeats."""
    owed, deadline = 1.0, time.monotonic() + SETTLE_SECONDS
    while owed and time.monotonic() < deadline:
        time.sleep(1)
        text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=10).raise_for_status().text
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        owed = max((sample.value for sample in samples if sample.name == "zimg_warm_up_owed"), default=1.0)


def stage_seconds(port: int) -> Counter[str]:
    """What all jobs so far spent in each stage, by the service's own metrics; the rest is the API's."""
    text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=10).raise_for_status().text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return Counter({s.labels["stage"]: s.value for s in samples if s.name == "zimg_job_seconds_sum"})


def draw_all(port: int, pictures: int, name: str) -> float:
    """Seconds from the first submit until all of these jobs have succeeded."""
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
        begun = time.perf_counter()
        ids = [
            http.post("/v1/jobs", json={"prompt": f"{name} {number:04d} {SUBJECT}"}).raise_for_status().json()["id"]
            for number in range(pictures)
        ]
        for job_id in ids:
            status = "queued"
            while status in ("queued", "running"):
                status = http.get(f"/v1/jobs/{job_id}", params={"wait": 20}).raise_for_status().json()["status"]
            assert status == "succeeded", f"job {job_id}: {status}"
        return time.perf_counter() - begun


def verdict(alone: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    """Both side by side: the worker's share of the engine's images/s, and what HTTP adds to a picture."""
    return {
        "what": "worker overhead",
        "ratio": round(whole["images_per_s"] / alone["images_per_s"], 4),
        "http_adds_p50_s": round(whole["p50_s"] - alone["p50_s"], 4),
        "http_p95_over_mean": round(whole["p95_s"] / whole["mean_s"], 3),
        "library": alone,
        "service": whole,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=40)
    parser.add_argument("--http", type=int, default=20)
    parser.add_argument("--out", default="")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--library", action="store_true", help="be the child that measures the library")
    arguments = parser.parse_args()
    os.environ.setdefault("ZIMG_WEIGHTS_DIR", "off")  # writing them a minute after the start would be measured too
    if arguments.library:
        print(json.dumps(library(arguments.pictures, arguments.http)), flush=True)
        return 0
    make = "from pathlib import Path; from benchmarks.engine_models import saved_model; "
    make += f"saved_model(Path({str(arguments.folder)!r}), tiny={arguments.tiny})"
    subprocess.run([sys.executable, "-c", make], check=True)
    child = [sys.executable, "-m", "benchmarks.worker_overhead", "--library", *sys.argv[1:]]
    environ = {**os.environ, "ZIMG_MODEL": str(arguments.folder)}
    done = subprocess.run(child, env=environ, stdout=subprocess.PIPE, text=True, timeout=CHILD_SECONDS, check=True)
    alone = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps({"what": "library alone", **alone}), flush=True)
    line = json.dumps(verdict(alone, service(arguments.folder, arguments.pictures, arguments.http)))
    print(line, flush=True)
    if arguments.out:
        with Path(arguments.out).open("a") as file:
            file.write(line + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

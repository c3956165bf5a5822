"""The documents name what exists."""

import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from core.metrics import (
    REGISTRY,
    STAGES,
    WORKER_GAUGES,
    ModelReading,
    ServiceCollector,
    ServiceReading,
    StageReading,
)

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "k8s").rglob("*.md"), ROOT / "benchmarks/README.md"]
)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_and_picture_exists(path):
    targets = [target.split("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text())]
    missing = [
        target
        for target in targets
        if target and not target.startswith(("http://", "https://", "mailto:")) and not (path.parent / target).exists()
    ]

    assert missing == []


def exported():
    """Names as `/metrics` shows them, of all that a service may show; not when each of them was begun."""
    stage = StageReading(buckets=[("+Inf", 1)], seconds=1)
    gauges = {"w": dict.fromkeys(WORKER_GAUGES, 1.0)}
    whole = ServiceReading(
        waiting={"batch": 1}, outcomes={"dead": 1}, stages=dict.fromkeys(STAGES, stage), audited_ms=1,
        models={"m": ModelReading()}, worker_gauges=gauges, redis_used_bytes=1, redis_most_bytes=1,
    )  # fmt: skip
    registry = CollectorRegistry()
    registry.register(ServiceCollector(lambda: whole))
    text = (generate_latest(registry) + generate_latest(REGISTRY)).decode()
    return {name for name in re.findall(r"^# TYPE (\w+)", text, flags=re.M) if not name.endswith("_created")}


def told():
    """Names of metrics that the operator reads of, anywhere between backticks."""
    text = re.sub(r"^```.*?^```", "", (ROOT / "docs/operations.md").read_text(), flags=re.M | re.S)
    return {name for code in re.findall(r"`([^`]*)`", text) for name in re.findall(r"\bzimg_\w+", code)}


def test_every_metric_that_the_operator_is_told_to_watch_is_exported():
    assert told() - exported() == set()


def test_the_operator_is_told_of_every_metric_that_is_exported():
    assert exported() - told() == set()


def test_the_operator_is_told_to_watch_the_memory_of_redis_long_before_it_is_full():
    text = (ROOT / "docs/operations.md").read_text()

    assert "| `zimg_redis_memory_used_bytes / zimg_redis_memory_max_bytes > 0.7` |" in text


def test_every_make_target_that_the_readme_names_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    named = set(
        re.findall(r"`?make ([a-z-]+)", (ROOT / "README.md").read_text() + (ROOT / "CONTRIBUTING.md").read_text())
    )

    assert named <= targets

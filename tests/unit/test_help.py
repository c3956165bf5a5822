"""Every command that a person types tells what it does, and does nothing else, when asked with --help."""

import runpy
import sys

import pytest

COMMANDS = [
    "benchmarks", "benchmarks.api_latency", "benchmarks.engine_curve", "benchmarks.engine_forecast",
    "benchmarks.engine_peers", "benchmarks.engine_plots", "benchmarks.engine_simulation", "benchmarks.engine_soak",
    "benchmarks.engine_start", "benchmarks.hostile_client", "benchmarks.long_list", "benchmarks.picture_end",
    "benchmarks.queue_fleet", "benchmarks.queue_scale", "benchmarks.queue_throughput", "benchmarks.startup",
    "benchmarks.worker_overhead",
    "deploy.local", "docs.sample_service", "docs.take_screenshots", "models.recipe", "models.tiny",
    "scheduler.auditor", "scheduler.ledger", "tests.mutants",
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example_and_does_nothing_else(command, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [command, "--help"])

    with pytest.raises(SystemExit) as ended:
        runpy.run_module(command, run_name="__main__", alter_sys=True)

    assert ended.value.code == 0
    assert f"python -m {command}" in capsys.readouterr().out

"""The peers' table, and a peer's pictures: a failure shows, the better way of four counts."""

from __future__ import annotations

import argparse
from typing import Any

import pytest
from PIL import Image

from benchmarks.engine_bench import Bench
from benchmarks.engine_peers import PEERS, TUNINGS, draw, read_peer, table


def figures(batch: int, seconds: float, gib: float) -> dict[str, Any]:
    return {
        "what": "peer",
        "peer": "leaf",
        "batch": batch,
        "s": seconds,
        "images_per_s": batch / seconds,
        "nvml_gib": gib,
    }


def test_the_table_takes_the_faster_of_a_batch_of_four_and_one_by_one() -> None:
    assert "batch of 4" in table([figures(1, 2.0, 4.8), figures(4, 4.0, 16.4)])
    slow_batch = table([figures(1, 1.0, 4.8), figures(4, 8.0, 16.4)]).splitlines()[1]
    assert "one by one" in slow_batch
    assert "16.4" not in slow_batch


def test_the_table_says_why_a_peer_has_no_figures() -> None:
    rows = [{"what": "failed", "peer": "mmgp", "error": "ImportError: no quanto"}, {"what": "end"}]
    assert "ImportError: no quanto" in table(rows)


def test_a_flat_picture_is_no_figure() -> None:
    class Flat:
        def __call__(self, prompts: list[str], **_: Any) -> Any:
            return argparse.Namespace(images=[Image.new("RGB", (8, 8)) for _ in prompts])

    bench = Bench(argparse.Namespace(tiny=True, out="", minutes=1))
    with pytest.raises(ValueError, match="flat"):
        draw(bench, Flat(), 1)


def test_a_peer_is_named_with_its_options() -> None:
    assert read_peer("leaf") == ("leaf", {})
    assert read_peer("block:num_blocks_per_group=4:compiled=true") == (
        "block",
        {"num_blocks_per_group": 4, "compiled": True},
    )


@pytest.mark.parametrize(
    ("spec", "reason"),
    [("leafs", "no such peer: leafs"), ("leaf:compiled", "name:option=value"), ("leaf:a=b", "Expecting value")],
)
def test_a_peer_that_can_not_be_read_says_why(spec: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_peer(spec)


def test_every_tuning_is_of_a_peer() -> None:
    assert {read_peer(spec)[0] for spec in TUNINGS} <= set(PEERS)


def test_beside_the_compiled_pipeline_every_peer_is_also_a_ratio() -> None:
    rows = [figures(1, 1.5, 4.8), {**figures(1, 0.5, 21.1), "peer": "compiled"}]
    _, leaf, compiled = table(rows).splitlines()
    assert leaf.split()[2] == "3.00"
    assert compiled.split()[2] == "1.00"
    assert table(rows[:1]).splitlines()[1].split()[2] == "-"

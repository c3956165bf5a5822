"""The engine's curve computed for cards that were not at hand: `python -m benchmarks.engine_forecast` prints a table.

Pure arithmetic from counted operations, the planner's own split of a budget, and two figures of each card: peak bf16
rate (with 32-bit sums) and bus. Nothing here was measured on those cards. A share of the peak stands for how well the
kernels do; an H100 was measured at 0.57 of its peak (55.1 TFLOP in 98.5 ms of 989 TFLOP/s), and smaller cards, whose
memory is faster beside their arithmetic, come closer to theirs. At share 1.0 nothing could be faster.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace

from worker.offload.plan import BlockFacts, Facts, ImpossibleBudget
from worker.offload.planner import make_plan

GIB = 1 << 30
TERA = 1e12
#: Bytes of a block in bf16, counted on the model at its full shape: 35 text layers, 32 + 2 of the denoiser.
TEXT_BLOCK, DENOISE_BLOCK, REFINER_BLOCK = 201_862_144, 361_821_184, 353_926_144
#: Of a block's bytes that are carried when packed: 11.1 bits of 16 (tests/unit/offload/test_packing.py).
PACKED_SHARE = 11.1 / 16
#: Operations at 1024x1024 with a caption of 128 tokens, counted by torch: a denoiser block, the decode; the whole
#: encoder is twice its weights a token.
BLOCK_OPERATIONS, DECODE_OPERATIONS = 1.769 * TERA, 10.47 * TERA
TEXT_OPERATIONS = TEXT_BLOCK / 2 * 2 * 128
#: A forward: 30 layers and 2 noise refiners (these see the picture alone, as long as the rest to within 3 %).
DENOISE_BLOCKS, REFINER_BLOCKS, TEXT_BLOCKS = 32, 2, 35
FORWARDS = 4


@dataclass(frozen=True)
class CardFacts:
    """A card by its data sheet: bf16 operations and bytes from the host per second, bytes of memory."""

    name: str
    operations: float
    bus: float
    memory: int


RTX_4090 = CardFacts("RTX 4090", 165.2 * TERA, 25e9, 24 * GIB)
RTX_3090 = CardFacts("RTX 3090", 71.0 * TERA, 25e9, 24 * GIB)


@dataclass(frozen=True)
class Forecast:
    """Seconds of one picture alone, pictures per second with many in flight, and what binds a picture alone."""

    seconds: float
    images_per_s: float
    bound: str  # computing, bus


def forecast(card: CardFacts, budget_gib: float, share: float) -> Forecast:
    """The engine at `budget_gib` on `card` whose kernels reach `share` of its peak; raises ImpossibleBudget.

    A stage takes its copies or its computing, whichever is longer; company shares the copies of each sweep.
    """
    rate = card.operations * share
    blocks = carried_blocks()
    facts = Facts(
        context=800 << 20,  # context, fixed parts, activations and decode as measured on an H100
        fixed=200 << 20,
        activations=360 << 20,
        decode=1300 << 20,
        waiting=60 << 20,
        bandwidth=card.bus,
        block_seconds=(TEXT_OPERATIONS / rate, BLOCK_OPERATIONS / rate),
    )
    plan = make_plan("z-image", blocks, ("text", "denoise"), int(budget_gib * GIB), facts)
    staying = plan.residents | plan.in_place
    copied = {0: 0.0, 1: 0.0}
    heads = dict(plan.heads)
    for block in blocks:
        carried = 0 if block.name in staying else block.carried - heads.get(block.name, 0)
        copied[block.stage] += block.turns * carried / card.bus
    computed = {0: TEXT_BLOCKS * TEXT_OPERATIONS / rate, 1: DENOISE_BLOCKS * FORWARDS * BLOCK_OPERATIONS / rate}
    yielded = sum(block.carried for block in blocks if block.name in plan.yielding) / card.bus
    decode = DECODE_OPERATIONS / rate
    alone = sum(max(copied[stage], computed[stage]) for stage in copied) + max(decode, yielded)
    seats = max(plan.seats, 1)
    shared = max(sum(computed.values()) + decode, (sum(copied.values()) + yielded) / seats)
    return Forecast(alone, 1 / shared, "bus" if copied[1] > computed[1] else "computing")


def carried_blocks() -> list[BlockFacts]:
    """Z-Image-Turbo's blocks as the planner sees them."""
    kinds = (
        ("text", 0, TEXT_BLOCK, TEXT_BLOCKS, 1),
        ("refiner", 1, REFINER_BLOCK, REFINER_BLOCKS, 1),
        ("layer", 1, DENOISE_BLOCK, DENOISE_BLOCKS, FORWARDS),
    )
    return [
        BlockFacts(f"{name}.{at}", stage, raw, round(raw * PACKED_SHARE), turns)
        for name, stage, raw, count, turns in kinds
        for at in range(count)
    ]


def fastest_seconds(card: CardFacts) -> float:
    """The denoiser alone at the card's whole peak: no bf16 engine can draw faster."""
    return FORWARDS * DENOISE_BLOCKS * BLOCK_OPERATIONS / card.operations


def table(budgets: Sequence[float] = (3.0, 4.0, 5.8, 8.0, 12.0), shares: Sequence[float] = (0.8, 1.0)) -> str:
    """A Markdown table: seconds alone, pictures per second in company."""
    heads = [f"{card.name}, {share:.0%} of peak" for card in (RTX_4090, RTX_3090) for share in shares]
    lines = ["| budget | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for budget in budgets:
        cells = [_cell(card, budget, share) for card in (RTX_4090, RTX_3090) for share in shares]
        lines.append(f"| {budget} GiB | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(card: CardFacts, budget: float, share: float) -> str:
    try:
        found = forecast(card, budget, share)
    except ImpossibleBudget:
        return "-"
    return f"{found.seconds:.2f} s, {found.images_per_s:.2f}/s ({found.bound})"


def on_half_a_bus(card: CardFacts) -> CardFacts:
    """The same card in a slot of half the lanes."""
    return replace(card, name=f"{card.name}, half the lanes", bus=card.bus / 2)


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print(f"Four forwards, 1024x1024, computed; the bus carries {RTX_4090.bus / 1e9:.0f} GB/s.\n\n{table()}\n")
    for card in (RTX_4090, RTX_3090):
        half = forecast(on_half_a_bus(card), 5.8, 0.8)
        print(f"{card.name}: the denoiser alone takes {fastest_seconds(card):.2f} s at 100 % of peak; ", end="")
        print(f"with 12.5 GB/s at 5.8 GiB {half.seconds:.2f} s, {half.images_per_s:.2f}/s ({half.bound}).")


if __name__ == "__main__":
    main()

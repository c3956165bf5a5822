"""Our engine's curve and its anchors on one GPU: seconds per picture and memory at several budgets.

    python -m benchmarks.engine_curve --out results.jsonl --minutes 6 --parts probes,eager,compiled,ours

Each of our figures comes with how far it is from what copies and arithmetic alone would take, and with the part
"compiled" as a ratio to that anchor: all resident, just before, in a process of its own. Further parts: strips, paced
(the bus of PCIe 4 cards), timeline, lengths (100 prompts of all lengths, and what is compiled for them), least (the
least budget planned anew), first (a start with what a refusal names as the least budget, in a process of its own),
slow. Full-shape random weights, 1024x1024, text encoder and VAE inside the timer, every prompt fresh. One JSON line per
figure, flushed at once, so that a run that is cut short loses nothing. `--tiny` tries the script out on a CPU.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.engine_bench import SUBJECT, Bench, copied_back, digest, pools, ride, sync
from benchmarks.engine_limits import distance, probe_rate
from benchmarks.engine_pacing import paced_copies
from benchmarks.engine_probes import anchor, compile_in_place, probe, probe_decoder, probe_strips, probe_text
from benchmarks.engine_trail import trail_of, where_they_part

#: In flight, forwards, pictures.
LOADS = [(1, 4, 6), (2, 4, 10), (4, 4, 20), (8, 4, 20), (16, 4, 20), (1, 8, 4), (4, 8, 10)]
#: The same where a sweep has more seats than four: all ride at the same time, most of them parked.
CROWDS = [(16, 4, 32), (32, 4, 64)]
STAGES = ("anchors", "first", "ours")


def parity(bench: Bench, carousel: Any, hashes: dict[int, str], kind: str, company: int = 0) -> None:
    """Whether the anchor's pictures are drawn, with so many others in flight, who board before and after."""
    size = {"height": bench.size, "width": bench.size}
    others = [carousel.submit(prompt=bench.fresh_prompt(), **size, seed=at, steps=4) for at in range(company // 2)]
    tickets = {seed: carousel.submit(prompt=f"parity {seed} {SUBJECT}", **size, seed=seed, steps=4) for seed in hashes}
    others += [carousel.submit(prompt=bench.fresh_prompt(), **size, seed=at, steps=4) for at in range(company // 2)]
    got = {seed: digest(ticket.result(120)) for seed, ticket in tickets.items()}
    for other in others:
        other.result(120)
    equal = got == hashes if all(hashes.values()) else None  # None: there is no anchor in this run
    bench.say("parity", kind=kind, equal=equal, ours=got, plain=hashes)
    if equal is False and kind in bench.trails:
        bench.say("parting", kind=kind, at=where_we_part(bench, carousel, kind))


def where_we_part(bench: Bench, carousel: Any, kind: str) -> str:
    """Draws the anchor's first picture anew (its text is in the cache by now) and follows it through the pipeline."""
    pipe, plain = bench.trails[kind]
    with trail_of(pipe) as ours:
        carousel.submit(prompt=f"parity 1 {SUBJECT}", height=bench.size, width=bench.size, seed=1, steps=4).result(120)
    return where_they_part(plain, ours) or "nowhere before the picture"


def repeated(bench: Bench, carousel: Any) -> None:
    """Seconds of the text stage and of the picture, for fresh prompts and for one that is known."""
    for kind in ("first", "known"):
        found: list[list[float]] = [[], []]
        for _ in range(4):
            text = bench.fresh_prompt() if kind == "first" else f"known {SUBJECT}"
            start = time.perf_counter()
            ticket = carousel.submit(prompt=text, height=bench.size, width=bench.size, seed=0, steps=4)
            ticket.result(60)
            found[0].append(round(ticket.text_seconds * 1e3, 2))
            found[1].append(round(time.perf_counter() - start, 4))
        # of the known ones the first fills the cache
        text_ms, seconds = (one[1:] for one in found) if kind == "known" else found
        bench.say("repeated prompt", kind=kind, text_ms=text_ms, s=seconds)


def paced(bench: Bench, carousel: Any) -> None:
    """The same at the bus speed of PCIe 4 cards, of which the planner is told as it would measure it there."""
    from worker.offload import allowance

    placement, device = carousel._engine._placement, carousel._engine._device
    facts = placement._facts
    allowance.lift(device)  # for the copies that measure; planning anew holds it again
    own = device.measure_bandwidth(max(placement.assembly.blocks, key=lambda block: block.carried_bytes).host)
    device.trim()
    for gigabytes in (25, 12):
        placement._facts = replace(facts, bandwidth=gigabytes * 1e9)
        with paced_copies(device, gigabytes * 1e9, own):
            carousel.rebudget(5.8)
            for in_flight, pictures in ((1, 3), (4, 8)):
                ride(bench, carousel, in_flight, 4, in_flight)
                carried, start = carousel.report["fetched_bytes"], time.perf_counter()
                rate = ride(bench, carousel, in_flight, 4, pictures)
                seconds = time.perf_counter() - start
                figures = {"images_per_s": round(rate, 4), "s_per_image": round(1 / rate, 4)}
                if 4 in bench.anchors:
                    figures["of_anchor"] = round(1 / rate / bench.anchors[4], 3)
                figures["carried_gb_per_s"] = round((carousel.report["fetched_bytes"] - carried) / seconds / 1e9, 2)
                bench.say("paced", gb_per_s=gigabytes, budget=5.8, in_flight=in_flight, **figures)
    placement._facts = facts


def every_length(bench: Bench, carousel: Any, pipe: Any) -> None:
    """Prompts of all lengths, four in flight, in the sizes that were named: how much was compiled meanwhile."""
    text = f"{SUBJECT} " * 10
    prompts = [text[: 1 + at * 511 // 99] for at in range(100)]  # a token a letter: from 1 to the pipeline's longest
    tokens = [len(pipe.tokenizer(prompt).input_ids) for prompt in prompts]
    before, start = compilations(), time.perf_counter()
    tickets = [
        carousel.submit(prompt=prompt, height=bench.size, width=bench.size, seed=0, steps=4) for prompt in prompts
    ]
    for ticket in tickets:
        ticket.result(120)
    rate, forms = len(prompts) / (time.perf_counter() - start), carousel.report["forms"]
    figures = {"tokens": [min(tokens), max(tokens)], "images_per_s": round(rate, 4), "forms": forms}
    bench.say("every length", prompts=len(prompts), compiled=compilations() - before, **figures)


def compilations() -> int:
    """Graphs that torch's compiler was given in this process so far."""
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


def timeline(bench: Bench, carousel: Any) -> None:
    """What the copy and compute streams do during one picture: start and length in microseconds."""
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities, acc_events=True) as profile:
        ride(bench, carousel, 1, 4, 1)
        sync()
    rows = []
    for event in profile.events():
        kind = "copy" if "HtoD" in event.name else "unpack" if "_unpack" in event.name else "compute"
        if event.device_type == torch.autograd.DeviceType.CUDA and event.time_range.elapsed_us() >= 20:
            rows.append([kind, round(event.time_range.start), round(event.time_range.elapsed_us())])
    rows.sort(key=lambda row: row[1])
    first = rows[0][1] if rows else 0
    target = Path(bench.arguments.out).with_name("timeline.json")
    back = copied_back(profile, target)
    target.write_text(json.dumps([[kind, start - first, length] for kind, start, length in rows]))
    bench.say("timeline", events=len(rows), copies_back=len(back), bytes_back=sum(back), most_back=max(back, default=0))


def carried_bytes(carousel: Any) -> int:
    """What went over the bus so far: weights, and parked states in and out."""
    report = carousel.report
    return int(report["fetched_bytes"] + report["state_bytes"])


def curve_point(bench: Bench, carousel: Any, budget: float, loads: list[tuple[int, int, int]]) -> None:
    plan = carousel.plan
    bench.say("plan", budget=budget, text=str(plan))
    for in_flight, steps, pictures in loads:
        figures: dict[str, Any] = {}
        ride(bench, carousel, in_flight, steps, in_flight)
        carried = carried_bytes(carousel)
        with bench.memory(figures):
            rate = ride(bench, carousel, in_flight, steps, pictures)
        carried = (carried_bytes(carousel) - carried) / pictures
        if bench.rate:
            figures |= distance(1 / rate, steps, carried, plan.facts.bandwidth, bench.rate)
        if steps in bench.anchors:
            figures["of_anchor"] = round(1 / rate / bench.anchors[steps], 3)
        bench.say(
            "ours",
            budget=budget,
            in_flight=in_flight,
            forwards=steps,
            images_per_s=round(rate, 4),
            s_per_image=round(1 / rate, 4),
            process_gib=round(carousel.report["process_bytes"] / 2**30, 3),
            seats=plan.seats,
            places=plan.places,
            parkings=carousel.report["parkings"],
            residents=len(plan.residents),
            yielding=len(plan.yielding),
            **figures,
        )
    bench.say("pools", budget=budget, corrections=carousel.report["corrections"], **pools())


def options_of(bench: Bench) -> dict[str, Any]:
    """The carousel's, but for its budget."""
    options: dict[str, Any] = {"device": bench.where, "warm_up": ((bench.size, bench.size),)}
    options |= {"compile_cache": bench.arguments.forms, "seats": bench.arguments.seats}
    return options | ({"residents": 2, "packing": True} if bench.arguments.tiny else {})


def ours(bench: Bench, pipe: Any, hashes: dict[str, dict[int, str]]) -> None:
    from worker.offload import Carousel

    options = options_of(bench)
    crowds = [load for load in CROWDS if load[0] <= bench.arguments.seats]
    if "eager" in hashes:
        eager_point(bench, pipe, hashes["eager"], options)
    reference = hashes.get("compiled", {1: "", 2: ""})
    start = time.perf_counter()
    budget = bench.arguments.budget
    carousel = Carousel(pipe, budget, compile="off" if bench.arguments.tiny else "on", **options)
    parts = carousel.report["start_seconds"]
    bench.say("ready", kind="compiled", seconds=round(time.perf_counter() - start, 1), parts=parts)
    bench.attempt("parity compiled", lambda: parity(bench, carousel, reference, "compiled"))
    bench.attempt(
        str(budget),
        lambda: curve_point(bench, carousel, budget, crowds or LOADS),
        30,
    )
    if crowds:
        company = bench.arguments.seats
        bench.attempt("a crowd's parity", lambda: parity(bench, carousel, reference, f"among {company}", company))
    else:
        further_points(bench, carousel, pipe, reference)
    carousel.close()


def further_points(bench: Bench, carousel: Any, pipe: Any, reference: dict[int, str]) -> None:
    bench.attempt("repeated prompt", lambda: repeated(bench, carousel))
    if "lengths" in bench.arguments.parts:
        bench.attempt("every length", lambda: every_length(bench, carousel, pipe), 60)
    if "timeline" in bench.arguments.parts:
        bench.attempt("timeline", lambda: timeline(bench, carousel), 20)
    other_budgets(bench, carousel, reference)
    if "paced" in bench.arguments.parts:
        bench.attempt("paced", lambda: paced(bench, carousel), 30)


def eager_point(bench: Bench, pipe: Any, hashes: dict[int, str], options: dict[str, Any]) -> None:
    from worker.offload import Carousel

    start = time.perf_counter()
    carousel = Carousel(pipe, 5.8, compile="off", **options)
    bench.say("ready", kind="eager", seconds=round(time.perf_counter() - start, 1))
    bench.attempt("parity eager", lambda: parity(bench, carousel, hashes, "eager"))
    bench.attempt("eager 5.8", lambda: curve_point(bench, carousel, 5.8, [(1, 4, 3)]))
    start = time.perf_counter()
    carousel.close()
    bench.say("closed", seconds=round(time.perf_counter() - start, 1))


def least_first(bench: Bench, pipe: Any, options: dict[str, Any], reference: dict[int, str]) -> None:
    """A start with far too little, then one with what the refusal names, until one is accepted and draws."""
    from worker.offload import Carousel, ImpossibleBudget

    budget = 0.5
    for refusals in range(4):
        try:
            carousel = Carousel(pipe, budget, compile="off" if bench.arguments.tiny else "on", **options)
        except ImpossibleBudget as error:
            bench.say("refused", budget=budget, message=str(error))
            if error.least_bytes <= budget * 2**30:
                raise
            budget = error.least_bytes / 2**30
            continue
        with contextlib.closing(carousel):
            bench.say("accepted", budget=round(budget, 4), refusals=refusals)
            curve_point(bench, carousel, budget, [(1, 4, 3)])
            parity(bench, carousel, reference, f"at {budget:.3f}, the least")
        return
    raise RuntimeError(f"what was named was refused again, at last {budget:.3f} GiB")


def other_budgets(bench: Bench, carousel: Any, reference: dict[int, str]) -> None:
    from worker.offload import ImpossibleBudget

    least = [carousel.plan.least_budget / 2**30 + 0.01] if "least" in bench.arguments.parts else []
    for budget in [float(part) for part in bench.arguments.budgets.split(",") if part] + least:
        if bench.left() < 20:
            bench.say("skipped", budget=budget)
            continue
        try:
            start = time.perf_counter()
            carousel.rebudget(budget)
            bench.say("rebudgeted", budget=budget, seconds=round(time.perf_counter() - start, 2))
        except ImpossibleBudget as error:
            bench.say("refused", budget=budget, message=str(error))
            continue
        bench.attempt(f"{budget}", lambda: curve_point(bench, carousel, budget, [(1, 4, 4), (4, 4, 12)]))  # noqa: B023
        bench.attempt("parity", lambda: parity(bench, carousel, reference, f"at {budget}"))  # noqa: B023


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--parts", default="probes,eager,compiled,ours")
    parser.add_argument("--budget", type=float, default=5.8, help="of the start; the others are planned anew in place")
    parser.add_argument("--budgets", default="2.5,3.0,4.0,8.0,12.0,40.0", help="'' for none")
    parser.add_argument("--seats", type=int, default=4, help="riders of one sweep; with 16 or 32 only these loads")
    parser.add_argument("--forms", default="", help="where compiled forms are kept; else for this run only")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--stage", default="", choices=["", *STAGES], help="run this one in this process")
    parser.add_argument("--known", type=Path, help="the file with what earlier stages found")
    arguments = parser.parse_args()
    if arguments.stage:
        run_stage(Bench(arguments))
    else:
        run_all(arguments)


def run_all(arguments: argparse.Namespace) -> None:
    """Each stage in a process of its own: what one has loaded on the card would count against the next one's budget."""
    parts = arguments.parts.split(",")
    with tempfile.TemporaryDirectory(prefix="zimg-curve-") as scratch:
        known = Path(scratch) / "known.json"
        known.write_text(
            json.dumps({"begun": time.monotonic(), "rate": 0.0, "anchors": {}, "hashes": {}, "trails": {}})
        )
        more = ["--known", str(known), "--forms", arguments.forms or f"{scratch}/forms"]
        for stage in ["anchors", *(stage for stage in STAGES if stage in parts)]:
            command = [sys.executable, "-m", "benchmarks.engine_curve", *sys.argv[1:], "--stage", stage, *more]
            subprocess.run(command, check=True)


def run_stage(bench: Bench) -> None:
    """One stage, with what the earlier ones found."""
    if not bench.arguments.tiny:
        from worker.offload.card_memory import note_memory_before

        note_memory_before()
    from benchmarks.engine_models import build_z_image

    known = json.loads(bench.arguments.known.read_text())
    bench.started, bench.rate = known["begun"], known["rate"]  # the clock is the system's: processes share it
    bench.anchors = {int(steps): seconds for steps, seconds in known["anchors"].items()}
    hashes = {kind: {int(seed): name for seed, name in own.items()} for kind, own in known["hashes"].items()}
    pipe = build_z_image(bench.where, tiny=bench.arguments.tiny)
    bench.trails = {kind: (pipe, [(name, found) for name, found in trail]) for kind, trail in known["trails"].items()}
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    bench.say("built", card=card, torch=torch.__version__, base_gib=round(bench.base / 2**30, 3))
    if bench.arguments.stage == "anchors":
        known |= draw_anchors(bench, pipe)
        bench.arguments.known.write_text(json.dumps(known))
    elif bench.arguments.stage == "first":
        reference = hashes.get("compiled", {1: "", 2: ""})
        bench.attempt("least first", lambda: least_first(bench, pipe, options_of(bench), reference), 60)
    else:
        bench.attempt("ours", lambda: ours(bench, pipe, hashes), 60)
    bench.say("end", stage=bench.arguments.stage)


def draw_anchors(bench: Bench, pipe: Any) -> dict[str, Any]:
    """The pieces' times, the card's rate, and the plain pipeline with everything on the card."""
    parts = bench.arguments.parts.split(",")
    if "probes" in parts:
        for part in (probe, probe_decoder, probe_text):
            bench.attempt(part.__name__, lambda: part(bench, pipe), 60)  # noqa: B023
    if "strips" in parts:
        bench.attempt("strips", lambda: probe_strips(bench, pipe), 30)
    bench.attempt("matmul", lambda: probe_rate(bench))
    hashes: dict[str, dict[int, str]] = {}
    if "eager" in parts:
        bench.attempt("anchor eager", lambda: hashes.update(eager=anchor(bench, pipe, "eager")), 30)
    if "compiled" in parts and not bench.arguments.tiny:
        undo = compile_in_place(pipe)
        bench.attempt("anchor compiled", lambda: hashes.update(compiled=anchor(bench, pipe, "compiled")), 60)
        undo()
    trails = {kind: trail for kind, (_, trail) in bench.trails.items()}
    return {"rate": bench.rate, "anchors": bench.anchors, "hashes": hashes, "trails": trails}


if __name__ == "__main__":
    main()

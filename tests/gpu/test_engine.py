"""The engine on a card: the kernels, equality with the plain pipeline, order of streams, memory."""

from __future__ import annotations

import gc
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.engine_bench import copied_back
from tests.unit.offload.tiny import FAMILIES
from worker.offload import Carousel, drop_stores, packing, parking
from worker.offload.device import Device, open_device
from worker.offload.placement import Placement
from worker.offload.plan import Plan
from worker.offload.rider import Rider

ARRANGEMENTS = [
    {"residents": 0, "ring_slots": 2},
    {"residents": 3, "ring_slots": 1},
    {"residents": 99, "ring_slots": 2},
    {"residents": 2, "ring_slots": 3, "packing": False},
]


def plain(pipe: Any, seed: int, steps: int = 3, size: int = 128) -> bytes:
    generator = torch.Generator("cpu").manual_seed(seed)
    arguments = {"height": size, "width": size, "num_inference_steps": steps, "generator": generator}
    if type(pipe).__name__ != "QwenImagePipeline":
        arguments["guidance_scale"] = 0.0
    return bytes(pipe(prompt=f"mug {seed}", **arguments).images[0].tobytes())


def ride(carousel: Carousel, seeds: list[int], steps: int = 3, size: int = 128) -> list[bytes]:
    tickets = [carousel.submit(prompt=f"mug {seed}", height=size, width=size, seed=seed, steps=steps) for seed in seeds]
    return [ticket.result(120).tobytes() for ticket in tickets]


def change_plans(monkeypatch: pytest.MonkeyPatch, change: Callable[[Placement, Plan], Plan]) -> None:
    """Have every plan changed so before it is placed."""
    make = Placement._make_plan
    monkeypatch.setattr(
        Placement, "_make_plan", lambda placement, **wishes: change(placement, make(placement, **wishes))
    )


@pytest.fixture(scope="module")
def reference() -> tuple[Any, list[bytes]]:
    pipe = FAMILIES["z-image"]().to("cuda")
    return pipe, [plain(pipe, seed) for seed in range(4)]


def test_the_kernel_unpacks_every_bit_pattern_as_torch_does() -> None:
    generator = torch.Generator().manual_seed(0)
    patterns = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32).to(torch.int16).repeat(3)
    tame = torch.randn(1 << 20, generator=generator).to(torch.bfloat16).view(torch.int16)
    for values in (patterns, tame, torch.cat([tame, patterns])):
        from worker.offload import kernels

        packed, data = packing.encode(values.cuda())
        target = torch.full_like(values, 0x5A5A, device="cuda")
        kernels.unpack(data, packed, target)
        assert torch.equal(target.cpu(), values)


def test_packing_on_the_card_gives_the_same_bytes_as_on_the_host() -> None:
    values = torch.randn(1 << 16).to(torch.bfloat16).view(torch.int16)
    on_card, on_host = packing.encode(values.cuda()), packing.encode(values)
    assert on_card[0] == on_host[0]
    assert torch.equal(on_card[1].cpu(), on_host[1])


@pytest.mark.parametrize("options", ARRANGEMENTS, ids=str)
def test_pictures_in_company_are_the_plain_pipelines(
    reference: tuple[Any, list[bytes]], options: dict[str, Any]
) -> None:
    pipe, pictures = reference
    with Carousel(pipe, 20.0, device="cuda", compile="off", warm_up=((128, 128),), poison=True, **options) as carousel:
        assert ride(carousel, [0]) == pictures[:1]
        assert ride(carousel, [0, 1, 2, 3]) == pictures
    assert plain(pipe, 2) == pictures[2], "close() restores the pipeline"


def test_parked_riders_are_the_plain_pipelines(
    reference: tuple[Any, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe, pictures = reference
    monkeypatch.setattr(parking, "SMALLEST", 1)
    options = {"residents": 1, "ring_slots": 2, "places": 1, "poison": True}
    with Carousel(pipe, 20.0, device="cuda", compile="off", warm_up=((128, 128),), **options) as carousel:
        carousel._engine._device.jitter_cycles = 3_000_000  # type: ignore[attr-defined]
        for _ in range(3):
            assert ride(carousel, [0, 1, 2, 3]) == pictures
        assert carousel.report["parkings"] > 20
        torch.cuda.synchronize()
        allocated = torch.cuda.memory_allocated()
        assert ride(carousel, [0, 1, 2, 3]) == pictures
        torch.cuda.synchronize()
        assert torch.cuda.memory_allocated() <= allocated + (1 << 20)


def test_riders_parked_right_after_boarding_are_the_plain_pipelines(
    reference: tuple[Any, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe, pictures = reference
    ride_on = Rider.ride

    def ride_late(rider: Rider, error: BaseException | None = None) -> Any:
        if rider.rode == 0:
            torch.cuda._sleep(30_000_000)  # the boarding's work is far behind the copies
        return ride_on(rider, error)

    monkeypatch.setattr(parking, "SMALLEST", 1)
    monkeypatch.setattr(Rider, "ride", ride_late)
    options = {"residents": 1, "ring_slots": 2, "places": 1, "poison": True}
    with Carousel(pipe, 20.0, device="cuda", compile="off", warm_up=((128, 128),), **options) as carousel:
        for _ in range(3):
            assert ride(carousel, [0, 1, 2, 3]) == pictures


@pytest.mark.parametrize("family", ["sdxl", "flux", "qwen-image"])
def test_other_families_ride_equally(family: str) -> None:
    pipe = FAMILIES[family]().to("cuda")
    picture = plain(pipe, 1)
    options = {"residents": 1, "ring_slots": 2, "poison": True}
    with Carousel(pipe, 20.0, device="cuda", compile="off", warm_up=((128, 128),), **options) as carousel:
        assert ride(carousel, [1]) == [picture]


def test_random_delays_on_either_stream_change_nothing(reference: tuple[Any, list[bytes]]) -> None:
    pipe, pictures = reference
    options = {"residents": 2, "ring_slots": 2, "poison": True}
    with Carousel(pipe, 20.0, device="cuda", compile="off", warm_up=((128, 128),), **options) as carousel:
        carousel._engine._device.jitter_cycles = 3_000_000  # type: ignore[attr-defined]
        for _ in range(3):
            assert ride(carousel, [0, 1, 2, 3]) == pictures


def test_heads_and_a_lent_scratch_change_nothing_under_random_delays(
    reference: tuple[Any, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe, pictures = reference

    def with_heads(placement: Placement, plan: Plan) -> Plan:
        streamed = [block for block in placement.assembly.blocks if block.name not in plan.residents]
        heads = tuple((block.name, block.carried_bytes // 1024 * 512) for block in streamed[::2])
        return replace(plan, heads=heads, lends_scratch=True)

    change_plans(monkeypatch, with_heads)
    options = {"residents": 2, "ring_slots": 2, "poison": True}
    with Carousel(pipe, 20.0, device="cuda", compile="off", warm_up=((128, 128),), **options) as carousel:
        assert len(carousel.plan.heads) > 2
        carousel._engine._device.jitter_cycles = 3_000_000  # type: ignore[attr-defined]
        for _ in range(3):
            assert ride(carousel, [0, 1, 2, 3]) == pictures
        carousel.refresh()
        assert ride(carousel, [0, 1, 2, 3]) == pictures


def test_a_small_budget_lends_the_ring_to_the_decode_and_memory_stays_flat(
    reference: tuple[Any, list[bytes]],
) -> None:
    pipe, pictures = reference
    with Carousel(pipe, 20.0, device="cuda", compile="off", warm_up=((128, 128),), residents=2) as carousel:
        assert carousel.plan.predicted_peak > 0
    with Carousel(pipe, 20.0, device="cuda", compile="off", warm_up=((128, 128),), residents=2) as carousel:
        least = carousel.plan.least_budget / 2**30
        carousel.rebudget(least + 0.001)
        assert ride(carousel, [0, 1, 2, 3]) == pictures
        reserved = torch.cuda.memory_reserved()
        retries = torch.cuda.memory_stats()["num_device_alloc"]
        for _ in range(20):
            assert ride(carousel, [0, 1, 2, 3]) == pictures
        assert torch.cuda.memory_reserved() == reserved
        assert torch.cuda.memory_stats()["num_device_alloc"] == retries


def test_the_process_keeps_a_tight_budget_from_the_start_of_its_carousel_on(
    reference: tuple[Any, list[bytes]],
) -> None:
    _, pictures = reference
    pipe = FAMILIES["z-image"]()  # in host memory, as a worker's is
    options: dict[str, Any] = {"device": "cuda", "compile": "off", "warm_up": ((128, 128),), "decode": "plain"}
    with Carousel(pipe, 20.0, residents=2, **options) as carousel:
        budget = carousel.plan.least_budget / 2**30 + 0.15
    gc.collect()
    torch.cuda.empty_cache()  # what other tests left in the allocator
    with watched(open_device("cuda")) as taken:
        with Carousel(pipe, budget, **options) as carousel:
            starting = len(taken)
            for _ in range(5):
                assert ride(carousel, [0, 1, 2, 3]) == pictures, str(carousel.plan)
        closing = len(taken)
    assert 5 < starting < closing
    assert max(taken) <= budget * 2**30, f"of {budget:.3f} GiB: {[round(one / 2**30, 3) for one in taken[::5]]}"


@contextmanager
def watched(device: Device) -> Iterator[list[int]]:
    """What NVML books on this process, looked at all the time."""
    done, taken = threading.Event(), [device.process_bytes()]

    def look() -> None:
        while not done.wait(0.005):
            taken.append(device.process_bytes())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield taken
    finally:
        done.set()
        thread.join()


def test_a_step_makes_the_host_wait_for_nothing(reference: tuple[Any, list[bytes]]) -> None:
    """torch warns of each wait; a picture has some (its text, its end), a step none."""
    pipe, _ = reference
    options = {"residents": 2, "ring_slots": 2}
    with Carousel(pipe, 20.0, device="cuda", compile="off", warm_up=((128, 128),), **options) as carousel:
        waits = []
        for seed, steps in ((0, 2), (1, 2), (2, 12)):  # the first one may wait for what is loaded once
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                torch.cuda.set_sync_debug_mode("warn")
                try:
                    torch.ones(1, device="cuda").item()  # one that is certain
                    ride(carousel, [seed], steps=steps)
                finally:
                    torch.cuda.set_sync_debug_mode("default")
            found = [warning for warning in told if "synchroniz" in str(warning.message)]
            waits.append([f"{warning.filename}:{warning.lineno} {warning.message}" for warning in found])
    assert 1 <= len(waits[1]) == len(waits[2]), waits


def test_company_of_many_sizes_takes_no_more_from_the_card_than_was_taken_at_the_start(
    reference: tuple[Any, list[bytes]],
) -> None:
    pipe, pictures = reference
    sizes = [(128, 128), (160, 96), (96, 160), (64, 64), (192, 128), (256, 160)]
    with Carousel(pipe, 20.0, device="cuda", compile="off", warm_up=((256, 160),), residents=2) as carousel:
        carousel.rebudget(carousel.plan.least_budget / 2**30 + 0.4)
        assert carousel.plan.seats > 1
        taken = torch.cuda.memory_reserved()
        torch.cuda.reset_peak_memory_stats()
        for number in range(15):
            tickets = [
                carousel.submit(prompt=f"a {number} {at}", height=height, width=width, seed=at, steps=2 + at % 3)
                for at, (height, width) in enumerate(sizes[number % 3 :])
            ]
            for ticket in tickets:
                ticket.result(60)
        assert torch.cuda.max_memory_reserved() <= taken
        assert ride(carousel, [0, 1]) == pictures[:2]
    torch.empty(1 << 30, dtype=torch.uint8, device="cuda")  # close() takes the limit away


def test_between_rides_the_pool_of_blocks_and_decode_holds_the_lent_weights_alone(
    reference: tuple[Any, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe, pictures = reference
    change_plans(monkeypatch, lambda _, plan: replace(plan, lends_scratch=True))
    options = {"residents": 2, "ring_slots": 2, "compile": "off"}
    with Carousel(pipe, 20.0, device="cuda", warm_up=((128, 128),), **options) as carousel:
        assert ride(carousel, [0, 1, 2, 3]) == pictures
        torch.cuda.synchronize()
        held = [segment for segment in torch.cuda.memory_snapshot() if segment["segment_pool_id"] != (0, 0)]
        lent = carousel._engine._placement.weights.lent_bytes  # type: ignore[attr-defined]
        assert lent > 0
        assert lent <= sum(segment["allocated_size"] for segment in held) < lent + 4096
        assert sum(segment["total_size"] for segment in held) > lent, "there is room for temporaries"
    after = {segment["segment_pool_id"] for segment in torch.cuda.memory_snapshot()}
    assert after <= {(0, 0)}, "close() gives it back"


def test_a_new_plan_waits_for_copies_into_what_the_old_one_held(
    reference: tuple[Any, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe, pictures = reference
    change_plans(monkeypatch, lambda _, plan: replace(plan, lends_scratch=True, lends_ring=True))
    options = {"residents": 2, "ring_slots": 2, "compile": "off"}
    with Carousel(pipe, 20.0, device="cuda", warm_up=((128, 128),), **options) as carousel:
        carousel._engine._device.jitter_cycles = 30_000_000  # type: ignore[attr-defined]
        for budget in (19.0, 18.0, 17.0):
            assert ride(carousel, [0, 1]) == pictures[:2]
            carousel.rebudget(budget)
        assert ride(carousel, [0, 1, 2, 3]) == pictures


def test_a_restart_rides_what_it_owes_behind_its_first_tickets(
    reference: tuple[Any, list[bytes]], tmp_path: Path
) -> None:
    pipe, _ = reference
    more = {"compile_cache": tmp_path, "identity": str(tmp_path), "residents": 2, "seats": 2}
    options = {"device": "cuda", "compile": "on", "warm_up": ((128, 128),), "captions": (64,), **more}
    with Carousel(pipe, 20.0, **options) as carousel:
        assert carousel.is_settled
        pictures = ride(carousel, [0, 1])
    try:
        with Carousel(pipe, 20.0, **options) as carousel:
            assert carousel._engine._placement.owed  # type: ignore[attr-defined]
            assert carousel._engine._device.pool_bytes() > 0  # type: ignore[attr-defined]
            shelf = carousel._engine._placement.assembly.cache._shelf  # type: ignore[attr-defined]
            assert shelf is not None, "pinned before anybody rides"
            assert ride(carousel, [0, 1]) == pictures
            carousel.settle(60)
            forms = carousel.report["forms"]
            assert forms["compiled"] == forms["left to torch"] == 0
            torch.cuda.synchronize()
            taken = torch.cuda.max_memory_reserved()
            assert ride(carousel, [0, 1]) == pictures
            assert torch.cuda.max_memory_reserved() == taken
    finally:
        drop_stores()


def test_copies_match_the_plan(reference: tuple[Any, list[bytes]]) -> None:
    pipe, _ = reference
    options = {"residents": 3, "ring_slots": 2}
    with Carousel(pipe, 20.0, device="cuda", compile="off", warm_up=((128, 128),), **options) as carousel:
        ride(carousel, [7], steps=2)
        before = carousel.report["fetched_bytes"]
        ride(carousel, [8], steps=4)
        carried = carousel.report["fetched_bytes"] - before
        plan = carousel.plan
        once = sum(b.carried_bytes for b in _once_blocks(carousel) if b.name not in plan.residents)
        least = plan.sweep_bytes["text"] + 4 * (plan.sweep_bytes["denoise"] - once) + once
        assert least <= carried <= least + 2 * plan.ring_slots * plan.slot_bytes, "what the ring fetched ahead at most"


def test_no_weight_goes_back_to_the_host(reference: tuple[Any, list[bytes]], tmp_path: Path) -> None:
    pipe, _ = reference
    options = {"residents": 3, "ring_slots": 2}
    with Carousel(pipe, 20.0, device="cuda", compile="off", warm_up=((128, 128),), **options) as carousel:
        ride(carousel, [7], steps=2)
        few, many = (back_of_a_ride(carousel, seed, steps, tmp_path) for seed, steps in ((8, 4), (9, 12)))
    assert sum(few) == sum(many), "three times the sweeps bring back no byte more"
    picture, parts = 128 * 128 * 3 * 4, 1 << 16
    assert sum(few) <= picture + parts, few
    assert len(few) <= 8, "the prompt's cached parts, two flags and the picture"


def back_of_a_ride(carousel: Carousel, seed: int, steps: int, folder: Path) -> list[int]:
    """Bytes of each copy from the card to the host during one picture, as the driver tells them."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        ride(carousel, [seed], steps=steps)
        torch.cuda.synchronize()
    back = copied_back(profile, folder / "trace.json")
    assert "HtoD" in (folder / "trace.json").read_text(), "weights were carried in"
    assert back, "the picture"
    return back


def _once_blocks(carousel: Carousel) -> list[Any]:
    return [block for block in carousel._engine._placement.assembly.blocks if block.once]  # type: ignore[attr-defined]


def test_an_error_or_cancel_in_mid_ride_leaves_memory_flat(reference: tuple[Any, list[bytes]]) -> None:
    pipe, pictures = reference
    options = {"residents": 2, "ring_slots": 2, "poison": True}
    with Carousel(pipe, 20.0, device="cuda", compile="off", warm_up=((128, 128),), **options) as carousel:
        ride(carousel, [0, 1, 2, 3])
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        for seed in range(6):
            long = carousel.submit(prompt=f"long {seed}", height=128, width=128, seed=seed, steps=100)
            wrong = carousel.submit(prompt="wrong", height=100, width=128, seed=0, steps=2)
            long.cancel()
            with pytest.raises(ValueError, match="divisible"):
                wrong.result(60)
        assert ride(carousel, [0, 1, 2, 3]) == pictures
        torch.cuda.synchronize()
        assert torch.cuda.memory_allocated() <= before + (1 << 20)


def test_the_next_carousel_reads_the_table_that_the_last_one_left() -> None:
    pipe = FAMILIES["z-image"]()
    options = {"device": "cuda", "compile": "off", "warm_up": ((128, 128),), "identity": "tables", "residents": 2}
    table = pipe.text_encoder.get_input_embeddings().weight
    original = table.detach().clone()
    drop_stores()
    try:
        with Carousel(pipe, 20.0, **options) as first:  # type: ignore[arg-type]
            assert not table.is_cuda
            picture = ride(first, [0])
        assert torch.equal(table, original), "close() gives it back"
        table.data.zero_()  # what the next one reads is not this
        with Carousel(pipe, 20.0, **options) as second:  # type: ignore[arg-type]
            assert torch.equal(table, original)
            assert ride(second, [0]) == picture
    finally:
        drop_stores()


def test_a_pipeline_that_is_used_up_leaves_nothing_on_the_card() -> None:
    def draw_and_end() -> int:
        fresh = FAMILIES["z-image"]()
        carousel = Carousel(fresh, 20.0, device="cuda", compile="off", warm_up=((128, 128),), puts_back=False)
        ride(carousel, [0, 1])
        carousel.close()
        assert not any(weight.numel() for weight in fresh.transformer.layers.parameters())
        del fresh, carousel
        gc.collect()
        return torch.cuda.memory_allocated()

    first = draw_and_end()  # workspaces come with the first one
    assert draw_and_end() - first < 1 << 20, "less than half of the pipeline"


def test_pinned_memory_that_was_freed_goes_back_to_the_system() -> None:
    device = open_device("cuda")
    pinned = torch.empty(64 << 20, dtype=torch.uint8, pin_memory=True)
    held = torch.cuda.host_memory_stats()["allocated_bytes.current"]
    del pinned
    assert torch.cuda.host_memory_stats()["allocated_bytes.current"] == held, "torch keeps it for later"
    device.trim_host()
    assert torch.cuda.host_memory_stats()["allocated_bytes.current"] <= held - (64 << 20)

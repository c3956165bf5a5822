"""Blocks work in a pool of their own, which holds nothing of theirs once they are done."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.unit.offload.conftest import family_pipeline, plain_picture, same
from tests.unit.offload.tiny import FAMILIES
from worker.offload.apart import Pool, apart, copied_out
from worker.offload.carousel import Options
from worker.offload.device import CudaDevice, Device
from worker.offload.engine import Engine
from worker.offload.ticket import Order, Ticket


class Witness(TorchDispatchMode):
    """Notes every storage that is made inside."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[StorageWeakRef] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = function(*args, **(kwargs or {}))
        given = {_address(leaf) for leaf in tree_leaves((args, kwargs))}
        for leaf in tree_leaves(output):
            if isinstance(leaf, torch.Tensor) and _address(leaf) not in given:
                self.made.append(StorageWeakRef(leaf.untyped_storage()))
        return output


def _address(leaf: Any) -> int:
    return leaf.untyped_storage().data_ptr() if isinstance(leaf, torch.Tensor) else 0


class Pools(Device):
    """The CPU with pools that know what lies in them."""

    def __init__(self) -> None:
        super().__init__(torch.device("cpu"))
        self.rides = 0
        self.left: list[int] = []  # bytes that lay in the pool whenever a ride began
        self._is_inside = False

    def empty(self, nbytes: int) -> torch.Tensor:
        with torch.utils._python_dispatch._disable_current_modes():
            return super().empty(nbytes)  # the weights' own places stay

    def new_pool(self) -> Pool:
        made: list[StorageWeakRef] = []

        @contextmanager
        def inside() -> Iterator[None]:
            assert not self._is_inside, "a ride in a ride"
            self._is_inside = True
            self.left.append(sum(not storage.expired() for storage in made))
            self.rides += 1
            with Witness() as witness:
                yield
            made[:] = [storage for storage in (*made, *witness.made) if not storage.expired()]
            self._is_inside = False

        return inside


@pytest.mark.parametrize("seats", [1, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_whoever_rides_leaves_the_pool_as_it_was(family: str, seats: int) -> None:
    device = Pools()
    options = Options(device="cpu", ring_slots=2, residents=1, packing=True, seats=seats)
    engine = Engine(family_pipeline(family), 1 << 40, device, options)
    engine.start()
    try:
        orders = [
            Order(prompt=f"mug {seed}", height=64, width=(64, 96)[seed % 2], seed=seed, steps=2) for seed in range(4)
        ]
        tickets = [engine.enter(Ticket(order)) for order in orders]
        for order, ticket in zip(orders, tickets, strict=True):
            plain = plain_picture(family, order.prompt, order.seed, 2, order.height, order.width, 0.0)
            assert same(ticket.result(60), plain)
    finally:
        engine.stop(60)
    assert (device.rides > 20) == (seats > 1), "a lone rider needs none"
    assert not any(device.left), f"{sum(map(bool, device.left))} of {device.rides} rides found the pool taken"


def test_where_all_weights_are_in_place_company_has_no_pool() -> None:
    device = Pools()
    engine = Engine(family_pipeline("z-image"), 1 << 40, device, Options(device="cpu", seats=3))
    engine.start()
    try:
        assert engine.plan.in_place
        image = engine.enter(Ticket(Order(prompt="a mug", height=64, width=64, seed=1, steps=2))).result(60)
    finally:
        engine.stop(60)
    assert same(image, plain_picture("z-image", "a mug", 1, 2, 64, 64, 0.0))
    assert device.rides == 0


def test_a_pool_is_given_back_only_when_copies_into_it_are_over() -> None:
    happened: list[str] = []

    class Waiting(Pools):
        def new_pool(self) -> Pool:
            pool = super().new_pool()
            weakref.finalize(pool, happened.append, "given back")
            return pool

        def synchronize(self) -> None:
            happened.append("waited")

    options = Options(device="cpu", ring_slots=2, residents=1, packing=True, seats=3)
    engine = Engine(family_pipeline("z-image"), 1 << 40, Waiting(), options)
    engine.start()
    try:
        assert engine._placement is not None
        assert engine._placement.weights is not None
        happened.clear()
        engine._placement.weights.drop()
    finally:
        engine.stop(60)
    assert happened[:2] == ["waited", "given back"]


def test_another_allocator_than_torchs_own_has_no_pools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_allocator_backend", lambda: "cudaMallocAsync")
    with CudaDevice.new_pool(CudaDevice.__new__(CudaDevice))():
        assert torch.ones(1).item() == 1


def test_what_is_copied_out_has_the_same_values_layout_and_relations() -> None:
    whole = torch.arange(24.0).reshape(4, 6)
    part, turned = whole[1:3, ::2], whole.t()
    alone = copied_out(whole, given=set())
    assert torch.equal(alone, whole)
    assert _address(alone) != _address(whole)
    copy = copied_out({"part": part, "more": (turned, [whole, None, "word", 3]), "again": part}, given=set())
    assert copy["again"] is copy["part"]
    found = copy["part"], copy["more"][0], copy["more"][1][0]
    assert copy["more"][1][1:] == [None, "word", 3]
    for one, other in zip((part, turned, whole), found, strict=True):
        assert torch.equal(one, other)
        assert (one.stride(), one.storage_offset()) == (other.stride(), other.storage_offset())
    assert len({_address(tensor) for tensor in found}) == 1
    assert _address(whole) not in {_address(tensor) for tensor in found}


def test_what_a_block_hands_on_stays_itself() -> None:
    state = torch.ones(3, 4)
    weight = torch.nn.Parameter(torch.ones(2))
    kept = copied_out((state, state[1:], weight), given={_address(state)})
    assert kept[0] is state
    assert _address(kept[1]) == _address(state)
    assert kept[2] is weight


def test_what_is_more_than_storage_and_layout_stays_itself() -> None:
    conjugate = torch.ones(2, dtype=torch.complex64).conj()
    meta = torch.empty(3, device="meta")
    sparse = torch.eye(2).to_sparse()
    assert all(copied_out(tensor, given=set()) is tensor for tensor in (conjugate, meta, sparse))


def test_a_block_that_is_given_something_to_keep_rides_where_all_else_is() -> None:
    def refuse() -> AbstractContextManager[None]:
        raise AssertionError("in the pool")

    output = torch.ones(2)
    run = apart(lambda *_, **__: output, lambda: refuse)
    assert run(torch.ones(1), None, cache=object()) is output
    with pytest.raises(AssertionError):
        run(torch.ones(1), (None, 0.5, True, "word"), mask={"of": torch.ones(1)}, dtype=torch.float32)


def test_without_a_pool_nothing_is_copied() -> None:
    output = torch.ones(2)
    assert apart(lambda: output, lambda: None)() is output


def test_the_copy_is_made_outside_of_the_pool() -> None:
    inside, made = [False], []

    @contextmanager
    def pool() -> Iterator[None]:
        inside[0] = True
        yield
        inside[0] = False

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            made.append((str(function), inside[0]))
            return function(*args, **(kwargs or {}))

    with Watch():
        apart(lambda state: state + 1, lambda: pool)(torch.ones(2))
    assert ("aten.add.Tensor", True) in made
    assert ("aten.clone.default", False) in made

"""`zimg weights`, and who removes weights that nobody uses, on stores that the engine itself made."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from client import weights as client_weights
from client.command import app
from core.weight_stores import StoreSweeper, drop_stores
from worker.offload.blocks import Block
from worker.offload.host_weights import HostWeights
from worker.offload.packed_store import DiskStore
from worker.offload.packing_gain import is_smaller


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "shm"
    folder.mkdir()
    monkeypatch.setattr(client_weights, "SHARED_MEMORY", folder)
    return folder


@pytest.fixture
def zimg(memory: Path, tmp_path: Path) -> Callable[..., Result]:
    def run(*words: str) -> Result:
        return CliRunner().invoke(app, ["weights", *words, "--data-dir", str(tmp_path)])

    return run


def store_at(root: Path, key: str = "0123abcd") -> HostWeights:
    """A filled store, in use until it is closed."""
    block = Block("m", torch.nn.Linear(64, 64).to(torch.bfloat16), 0, 0, once=False, unneeded=False)
    store = HostWeights([block], key=key, root=root)
    if not store.is_complete:
        data = block.carry_form(torch.device("cpu"), is_smaller)
        store.put(block, data.numel()).copy_(data)
        store.seal()
    return store


def on_disk(tmp_path: Path, memory: Path) -> Path:
    """The same store on disk."""
    store = store_at(memory)
    disk = DiskStore(tmp_path / "weights", "0123abcd")
    disk.write(store._as_index(), memoryview(store._whole.numpy()), store._stop)  # type: ignore[arg-type]
    store.close()
    return disk.folder


def listed(zimg: Callable[..., Result]) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(zimg("list", "--json").stdout)
    return found


def test_stores_in_memory_and_on_disk_are_listed_with_size_and_state(
    zimg: Callable[..., Result], tmp_path: Path, memory: Path
) -> None:
    on_disk(tmp_path, memory)
    user = store_at(memory)
    one, two = listed(zimg)
    assert (one["place"], one["in_use"], one["complete"]) == ("memory", True, True)
    assert (two["place"], two["in_use"], two["complete"]) == ("disk", False, True)
    assert two["size_bytes"] >= (tmp_path / "weights" / "zimg-weights-0123abcd" / "data").stat().st_size  # type: ignore[operator]
    assert "in use" in zimg("list").stdout
    user.close()


def test_nothing_is_dropped_while_a_worker_uses_it(zimg: Callable[..., Result], tmp_path: Path, memory: Path) -> None:
    on_disk(tmp_path, memory)
    user = store_at(memory)
    refused = zimg("drop")
    assert refused.exit_code == 3
    assert "a worker uses 0123abcd (memory): stop the service first" in refused.stderr
    assert len(listed(zimg)) == 2
    user.close()
    assert [one["place"] for one in json.loads(zimg("drop", "--json").stdout)] == ["memory", "disk"]
    assert listed(zimg) == []


def test_only_memory_or_one_name_can_be_dropped(zimg: Callable[..., Result], tmp_path: Path, memory: Path) -> None:
    on_disk(tmp_path, memory)
    store_at(memory, "ffff").close()
    assert zimg("drop", "99").exit_code == 3
    assert "1 removed" in zimg("drop", "ff").stdout
    assert "1 removed" in zimg("drop", "--memory").stdout
    assert [one["place"] for one in listed(zimg)] == ["disk"]


def test_a_stopped_service_leaves_no_unused_weights_behind(memory: Path) -> None:
    user = store_at(memory)
    assert drop_stores(memory) == []
    user.close()
    assert [folder.name for folder in drop_stores(memory)] == ["zimg-weights-0123abcd"]
    assert list(memory.iterdir()) == []


def test_weights_go_after_an_hour_without_users_and_a_user_in_between_starts_the_hour_anew(memory: Path) -> None:
    sweeper = StoreSweeper(memory)
    store_at(memory).close()
    assert sweeper.tick(0.0) == []
    user = store_at(memory)
    assert sweeper.tick(3000.0) == []
    user.close()
    assert sweeper.tick(3005.0) == []
    assert sweeper.tick(6604.0) == [], "nearly an hour"
    assert [folder.name for folder in sweeper.tick(6605.0)] == ["zimg-weights-0123abcd"]
    assert list(memory.iterdir()) == []

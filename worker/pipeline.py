"""Loads the pipeline that ZIMG_MODEL names, in the right arithmetic for the machine, and puts the engine under it."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image

from core.errors import ConfigurationError
from core.logs import get_logger
from core.model_profile import ModelProfile, read_profile
from core.presets import find_preset
from core.settings import Settings
from worker.lean_imports import lean_imports
from worker.model_files import INDEX, can_be_cast_later, fetch, folder_of, loaded_from, stored_in_float32
from worker.offload import Carousel, ImpossibleBudget, TooLittleMemory, folder_identity
from worker.offload.beside import beside
from worker.offload.blocks import Cast
from worker.offload.card_memory import note_memory_before
from worker.offload.generated import hash_code, wake_loader
from worker.offload.host_memory import keep_few_arenas
from worker.offload.libraries import wake_libraries
from worker.plain_engine import PlainEngine
from worker.warm_parent import cuda_asleep

#: A CPU has fast bfloat16 if a convolution in it takes no longer than in float32.
TRIAL_CHANNELS, TRIAL_PIXELS, TRIAL_RUNS = 32, 64, 3
#: Of torch on the host where a card draws: one for each of 32 cores waited for each other, 27 processor seconds long.
HOST_THREADS = 4

log = get_logger(__name__)


class Ticket(Protocol):
    """What the worker asks of a ticket."""

    finite: bool

    def result(self, timeout: float | None = None) -> Image.Image: ...

    def cancel(self) -> None: ...


class Engine(Protocol):
    """What the worker asks of an engine."""

    @property
    def progress_stamp(self) -> float: ...

    @property
    def in_flight(self) -> int: ...

    @property
    def has_ended(self) -> bool: ...

    @property
    def has_drawn(self) -> bool: ...

    def submit(
        self,
        *,
        prompt: str,
        height: int,
        width: int,
        seed: int,
        steps: int,
        guidance_scale: float,
        lane: Any,
        alone: bool,
        on_step: Callable[[str, int, int], None] | None,
    ) -> Ticket: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A pipeline on the host, and where and how it computes."""

    pipe: Any
    device: str
    dtype: torch.dtype
    profile: ModelProfile
    cast: Cast = field(default_factory=dict)  # parts that the engine brings to `dtype` on their way
    identity: str = ""  # of its files before they were read; "": none is known


def load_model(settings: Settings) -> LoadedModel:
    """Load by the pipeline's own from_pretrained. Raises ConfigurationError where the machine or model can not work."""
    device, folder = choose_device(settings), folder_of(settings.model)
    identity = folder_identity(folder) if folder is not None else ""
    pipe, dtype, cast = _load_on_card(settings, device) if device.startswith("cuda") else _load_on_cpu(settings)
    pipe.set_progress_bar_config(disable=True)
    log.info(
        "model loaded", action="load", model=settings.model, device=device, dtype=str(dtype).removeprefix("torch.")
    )
    return LoadedModel(pipe, device, dtype, read_profile(settings.model), cast, identity)


def _load_on_card(settings: Settings, device: str) -> tuple[Any, torch.dtype, Cast]:
    """Start CUDA (0.4 s) while files are read; what must be downloaded first waits for the card's word."""
    keep_few_arenas()
    with ThreadPoolExecutor(1) as aside:
        aside.submit(note_memory_before)  # what is added from here on is this worker's
        choice = aside.submit(choose_dtype, settings, device)
        if settings.engine != "plain":
            choice.add_done_callback(lambda _: wake_libraries(device))
        expected = torch.bfloat16 if folder_of(settings.model) else choice.result()
        pipe, cast = read_pipeline(settings.model, expected, casts_later=settings.engine != "plain")
        return pipe, choice.result(), cast


def _load_on_cpu(settings: Settings) -> tuple[Any, torch.dtype, Cast]:
    dtype = choose_dtype(settings, "cpu")
    return read_pipeline(settings.model, dtype)[0], dtype, {}


def read_pipeline(model: str, dtype: torch.dtype, *, casts_later: bool = False) -> tuple[Any, Cast]:
    """The pipeline; with `casts_later` large parts as their files hold them, for the engine to bring to `dtype`."""
    from diffusers import DiffusionPipeline

    kind: Any = DiffusionPipeline
    try:
        if casts_later:
            folder = fetch(kind, model)
            as_stored = _as_stored(kind, folder, dtype) if folder else None
            if as_stored is not None:
                return as_stored
        return kind.from_pretrained(model, dtype=dtype), {}
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"ZIMG_MODEL={model!r} could not be loaded: {str(error)[:300]}. "
            "Name a folder in diffusers' format or a model on the hub."
        ) from error


def _as_stored(kind: Any, folder: Path, dtype: torch.dtype) -> tuple[Any, Cast] | None:
    """Load large parts as their files hold them; None where there are none, or casting them later is not the same."""
    names = stored_in_float32(folder)
    if not names or dtype == torch.float32:
        return None
    pipe = kind.from_pretrained(folder, dtype={"default": dtype, **dict.fromkeys(names, torch.float32)})
    is_fine = all(can_be_cast_later(getattr(pipe, name)) for name in names)
    return (pipe, dict.fromkeys(names, dtype)) if is_fine else None


def import_ahead(settings: Settings) -> None:
    """Import what loading the model and its compiled forms needs; it computes nothing, so the process may fork."""
    with cuda_asleep():  # starting it takes half a second, and no fork could use it then
        has_card = torch.cuda.is_available()
    if not has_card:
        _import_classes(settings)
        return
    from worker.offload import kernels

    keep_few_arenas()
    with beside(kernels.wake):  # it reads a few large files, which leaves Python to others
        if settings.compile != "off":
            wake_loader()
        _import_classes(settings)
    if settings.compile != "off":
        hash_code()  # beside imports it took ten times as long, and they a third longer: both read thousands of files


def _import_classes(settings: Settings) -> None:
    with lean_imports():
        import diffusers
        import transformers

        packages = {"diffusers": diffusers, "transformers": transformers}
        for library, name in _classes_of(folder_of(settings.model)):
            getattr(packages.get(library), name, None)  # what is missing is told by whoever loads the model


def _classes_of(folder: Path | None) -> list[tuple[str, str]]:
    """Libraries and classes that the index of a model's folder names; nothing for a model that is not here yet."""
    if folder is None:
        return []
    try:
        index = json.loads((folder / INDEX).read_text())
    except (OSError, ValueError):
        return []
    parts = [value for value in index.values() if isinstance(value, list)]
    return [("diffusers", index.get("_class_name", "")), *((library, name) for library, name in parts if name)]


def collect_garbage_from_now_on() -> None:
    """Whatever was imported and loaded stays for this process's life: only what comes later is looked through.

    The little garbage among it (no tensor was in it) stays too: finding it took 0.4 s on two CPU cores.
    """
    gc.freeze()
    gc.enable()


def choose_device(settings: Settings) -> str:
    """The device that ZIMG_DEVICE names, or the first GPU, or the CPU."""
    if settings.device != "auto":
        if settings.device.startswith("cuda") and not torch.cuda.is_available():
            raise ConfigurationError(f"ZIMG_DEVICE={settings.device!r}: torch sees no CUDA GPU on this machine.")
        return settings.device
    return "cuda" if torch.cuda.is_available() else "cpu"


def choose_dtype(settings: Settings, device: str) -> torch.dtype:
    """bfloat16 on a GPU; on a CPU what ZIMG_CPU_DTYPE says or a short timing finds. float16 is never chosen."""
    if device.startswith("cuda"):
        with torch.cuda.device(device):
            has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
        if not has_bfloat16:
            raise ConfigurationError(
                f"{torch.cuda.get_device_name(device)} has no bfloat16 (it came with Ampere, compute capability 8.0), "
                "and float16 overflows in this model and draws black pictures. Use a newer card, or ZIMG_DEVICE=cpu."
            )
        return torch.bfloat16
    if settings.cpu_dtype != "auto":
        return torch.bfloat16 if settings.cpu_dtype == "bfloat16" else torch.float32
    return torch.bfloat16 if _has_fast_bfloat16() else torch.float32


def _has_fast_bfloat16() -> bool:
    """Whether this CPU computes bfloat16 in hardware, and a convolution is no slower in it; says so in the log."""
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():  # else the trial itself could take many seconds
        log.info("computing in float32: this CPU has no bfloat16", action="load")
        return False
    seconds = {dtype: _time_convolution(dtype) for dtype in (torch.float32, torch.bfloat16)}
    is_fast = seconds[torch.bfloat16] <= seconds[torch.float32]
    log.info(
        f"computing in {'bfloat16' if is_fast else 'float32'}: a trial took "
        f"{seconds[torch.bfloat16] * 1000:.1f} ms in bfloat16 and {seconds[torch.float32] * 1000:.1f} ms in float32",
        action="load",
    )
    return is_fast


def _time_convolution(dtype: torch.dtype) -> float:
    layer = torch.nn.Conv2d(TRIAL_CHANNELS, TRIAL_CHANNELS, 3, padding=1).to(dtype)
    image = torch.zeros(1, TRIAL_CHANNELS, TRIAL_PIXELS, TRIAL_PIXELS, dtype=dtype)
    times = []
    with torch.inference_mode():
        layer(image)
        for _ in range(TRIAL_RUNS):
            begun = time.perf_counter()
            layer(image)
            times.append(time.perf_counter() - begun)
    return min(times)


def make_engine(settings: Settings, model: LoadedModel) -> Engine:
    """The engine under the model. Raises ConfigurationError with the least possible budget where it does not fit."""
    leave_host_to_others(model.device)
    if settings.engine == "plain":
        return PlainEngine(model.pipe, device=model.device, seats=settings.concurrency)
    weights, preset = weights_folder(settings), find_preset(settings.preset)
    shapes = {size[::-1] for size in (model.profile.square, model.profile.portrait, model.profile.landscape)}
    try:
        return Carousel(
            model.pipe,
            settings.vram_budget_gib,
            device=model.device,
            compile=settings.compile,
            compile_cache=Path(weights) / "compiled" if weights else "",
            guided=preset.guidance_scale > 0,
            seats=settings.concurrency,
            strategy_file=settings.offload_strategy,
            identity=_identity_of(settings, model),
            weights_cache=weights,
            warm_up=tuple(sorted(shapes, key=lambda shape: -shape[0] * shape[1])),
            steps=preset.forwards,
            cast=model.cast,
            puts_back=False,  # a worker ends with its engine
        )
    except (ImpossibleBudget, TooLittleMemory) as error:
        raise ConfigurationError(str(error)) from error


def _identity_of(settings: Settings, model: LoadedModel) -> str:
    """By what its packed weights are kept; "" where they must not be: its files changed while they were read."""
    folder = loaded_from(model.pipe, settings.model)
    identity = folder_identity(folder) if folder else ""
    if model.identity and identity != model.identity:
        log.warning("the model's files changed while they were loaded: nothing of it is kept", action="load")
        return ""
    return identity


def leave_host_to_others(device: str) -> None:
    """Where a card draws, have torch use few threads on the host; the engine's thread takes that over."""
    if device.startswith("cuda"):
        torch.set_num_threads(min(torch.get_num_threads(), HOST_THREADS))


def weights_folder(settings: Settings) -> str | Path:
    """Where packed weights are kept on disk; "" for nowhere."""
    return "" if settings.weights_dir == "off" else settings.weights_dir or settings.data_dir / "weights"


def warm_up(engine: Engine, settings: Settings, profile: ModelProfile) -> None:
    """One picture through all stages, so that ready means ready; none where the engine has drawn some at its start."""
    if engine.has_drawn:
        return
    preset, (width, height) = find_preset(settings.preset), profile.default_size
    engine.submit(
        prompt="a white cup on a table",
        height=height,
        width=width,
        seed=0,
        steps=preset.forwards,
        guidance_scale=preset.guidance_scale,
        lane="interactive",
        alone=False,
        on_step=None,
    ).result(timeout=900)

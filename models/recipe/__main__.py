"""`python -m models.recipe`: train the starter model from nothing, measure it, write it; resumes where it stopped."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import ZImagePipeline
from diffusers.utils import logging as diffusers_logging
from transformers import PreTrainedTokenizerFast

from models.recipe.batches import (
    CAPTION_PLANS,
    CaptionTable,
    LatentPool,
    PoolPainter,
    SizePlan,
    build_caption_table,
    training_groups,
)
from models.recipe.finish import Examiner, finish, write_model
from models.recipe.model import (
    TINY_SHAPE,
    BatchedDenoiser,
    ModelShape,
    Vae,
    build_text_encoder,
    build_transformer,
    build_vae,
)
from models.recipe.progress import Run
from models.recipe.sampling import Painter
from models.recipe.tokenizer import build_tokenizer
from models.recipe.train_diffusion import Data, Learners, train_flow
from models.recipe.train_vae import Lesson, train_vae
from models.recipe.train_words import train_words

SHORT = ((32, 0.85), (64, 0.15))
#: Pictures per step are never as many as a picture has tokens: the compiler would take the two for one size.
SIZES = (
    SizePlan(256, 256, 240, 49152, 0.80, 0.28, ((32, 0.78), (64, 0.14), (128, 0.05), (512, 0.03))),
    SizePlan(384, 384, 112, 5120, 0.06, 0.04, SHORT),
    SizePlan(512, 512, 64, 12288, 0.14, 0.32, SHORT),
    SizePlan(576, 448, 64, 2560, 0.0, 0.05, SHORT),
    SizePlan(448, 576, 64, 2560, 0.0, 0.05, SHORT),
    SizePlan(768, 768, 24, 3072, 0.0, 0.10, SHORT),
    SizePlan(1024, 1024, 14, 1536, 0.0, 0.06, SHORT),
    SizePlan(832, 1248, 14, 1536, 0.0, 0.05, SHORT),
    SizePlan(1248, 832, 14, 1536, 0.0, 0.05, SHORT),
)
TINY_SIZES = (
    SizePlan(64, 64, 4, 16, 0.7, 0.5, ((32, 0.8), (64, 0.1), (128, 0.1))),
    SizePlan(96, 64, 4, 8, 0.3, 0.5, SHORT),
)
LESSONS = (Lesson(128, 128, 16384, 0.5), Lesson(256, 32, 12288, 0.9), Lesson(512, 8, 1536, 1.0))
TINY_LESSONS = (Lesson(64, 2, 8, 0.5), Lesson(96, 2, 4, 1.0))
CAPTIONS, POOLS = "captions.pt", "pools.pt"


@dataclass(frozen=True, slots=True)
class Scale:
    """What a dry run on a CPU makes smaller; stages and code are the same."""

    shape: ModelShape
    sizes: tuple[SizePlan, ...]
    lessons: tuple[Lesson, ...]
    examiner: Examiner
    groups: int | None
    words_pixels: int


FULL = Scale(ModelShape(), SIZES, LESSONS, Examiner(), None, 256)
TINY = Scale(
    TINY_SHAPE,
    TINY_SIZES,
    TINY_LESSONS,
    Examiner(classifier_steps=3, classifier_batch=16, references=256, sizes=((64, 4),), main=64, sheet=4, tile=64),
    60,
    64,
)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m models.recipe", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/starter"), help="checkpoints, log, pictures and model")
    parser.add_argument("--vae-seconds", type=float, default=205)
    parser.add_argument("--flow-seconds", type=float, default=640)
    parser.add_argument("--words-seconds", type=float, default=60)
    parser.add_argument(
        "--start-from", type=Path, help="a folder with a trained model, in place of the first two stages"
    )
    parser.add_argument("--pool-share", type=float, default=1.0, help="smaller pools of pictures for a shorter run")
    parser.add_argument("--captions", type=int, default=500, help="held-out captions to measure on")
    parser.add_argument("--stop-after", type=float, default=float("inf"), help="seconds until a run that resumes later")
    parser.add_argument("--no-compile", action="store_true", help="no compiled transformer blocks")
    parser.add_argument("--no-graphs", action="store_true", help="no recorded training steps")
    parser.add_argument("--tiny", action="store_true", help="a dry run of a minute on a CPU")
    return parser.parse_args()


def main() -> None:
    """Run every stage that is not done yet."""
    arguments = _arguments()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    arguments.out.mkdir(parents=True, exist_ok=True)
    run, scale = Run(arguments.out, device, stop_after=arguments.stop_after), TINY if arguments.tiny else FULL
    diffusers_logging.set_verbosity_error()
    torch.set_float32_matmul_precision("high")
    torch._dynamo.config.cache_size_limit = 128
    torch.serialization.set_crc32_options(False)  # pools are gigabytes, and a run folder is no archive
    torch.manual_seed(0)
    painter = _load_painter(run, arguments.start_from) if arguments.start_from else _train(arguments, run, scale)
    if painter is None:
        return
    if not run.must_stop:
        learners = Learners(painter.encoder, painter.denoiser)
        train_words(learners, painter.tokenizer, run, arguments.words_seconds, scale.words_pixels)
    if run.must_stop:
        scale.examiner.glance(painter, run, min(arguments.captions, 100))
        write_model(painter, run.path("so-far"))
    else:
        finish(painter, run, scale.examiner, arguments.captions)


def _load_painter(run: Run, folder: Path) -> Painter:
    loaded: Any = ZImagePipeline.from_pretrained(folder, torch_dtype=torch.float32)  # type: ignore[no-untyped-call]
    pipe = loaded.to(run.device)
    return Painter(pipe.tokenizer, pipe.text_encoder, BatchedDenoiser(pipe.transformer), pipe.vae, run.device)


def _train(arguments: argparse.Namespace, run: Run, scale: Scale) -> Painter | None:
    """The first two stages, from nothing; nothing to draw with where the first has to go on later."""
    tokenizer, graphs = load_tokenizer(run), not arguments.no_graphs
    vae = build_vae(scale.shape).to(run.device)
    train_vae(vae, run, arguments.vae_seconds, scale.lessons, graphs=graphs)
    if run.must_stop:
        return None
    vae.eval().requires_grad_(False)
    encoder = build_text_encoder(scale.shape, tokenizer).to(run.device).eval()
    compiles = run.device.type == "cuda" and not arguments.no_compile
    denoiser = BatchedDenoiser(build_transformer(scale.shape).to(run.device), compiles).eval()
    painter = Painter(tokenizer, encoder, denoiser, vae, run.device)
    data = _load_data(run, scale, painter, arguments.pool_share)
    train_flow(Learners(encoder, denoiser), data, run, arguments.flow_seconds, graphs=graphs)
    return painter


def _load_data(run: Run, scale: Scale, painter: Painter, share: float) -> Data:
    captions = load_captions(run, painter.tokenizer, scale.groups)
    run.log("captions", tables=len(captions))
    sizes = [replace(size, pool=max(2, int(size.pool * share))) for size in scale.sizes]
    data = Data(captions, list(zip(sizes, load_pools(run, painter.vae, sizes), strict=True)))
    run.log("pools", pictures=sum(size.pool for size in sizes))
    return data


def load_tokenizer(run: Run) -> PreTrainedTokenizerFast:
    """The tokenizer, trained once per run folder: captions on disk are written in its numbers."""
    folder = run.path("tokenizer")
    if not folder.is_dir():
        build_tokenizer().save_pretrained(folder)
    tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(folder)
    return tokenizer


def load_captions(run: Run, tokenizer: PreTrainedTokenizerFast, limit: int | None) -> dict[int, CaptionTable]:
    """The caption tables, written once per run folder."""
    state = run.load(CAPTIONS)
    if state is None:
        groups = training_groups()[:limit]
        tables = {p.length: build_caption_table(tokenizer, p, groups, p.length) for p in CAPTION_PLANS}
        state = {str(length): asdict(table) for length, table in tables.items()}
        run.save(CAPTIONS, state)
    return {int(length): CaptionTable(**fields).to(run.device) for length, fields in state.items()}


def load_pools(run: Run, vae: Vae, sizes: list[SizePlan]) -> list[LatentPool]:
    """The pools of encoded pictures, drawn once per run folder."""
    state = run.load(POOLS)
    if state is None:
        artist = PoolPainter(vae, run.dtype, torch.Generator(run.device).manual_seed(21))
        pools = [artist.paint(size, i) for i, size in enumerate(sizes)]
        run.save(POOLS, {str(i): asdict(pool) for i, pool in enumerate(pools)})
        return pools
    return [LatentPool(**state[str(i)]) for i in range(len(sizes))]


if __name__ == "__main__":
    main()

"""`python -m models.recipe`: train the starter model from nothing, measure it, write it; resumes where it stopped."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from diffusers.utils import logging as diffusers_logging
from transformers import PreTrainedTokenizerFast

from models.recipe.batches import (
    CAPTION_PLANS,
    CaptionTable,
    LatentPool,
    SizePlan,
    build_caption_table,
    build_latent_pool,
    training_groups,
)
from models.recipe.evaluate import measure, measure_ruler, reference_colours, train_classifier
from models.recipe.export import export_pipeline
from models.recipe.model import (
    TINY_SHAPE,
    BatchedDenoiser,
    ModelShape,
    Vae,
    build_text_encoder,
    build_transformer,
    build_vae,
)
from models.recipe.plots import contact_sheet, loss_plot
from models.recipe.progress import Run
from models.recipe.sampling import Painter
from models.recipe.tokenizer import build_tokenizer
from models.recipe.train_diffusion import Data, Learners, train_distilled, train_flow
from models.recipe.train_vae import train_vae

SIZES = (
    SizePlan(256, 256, 0.54, 160, 40960),
    SizePlan(384, 384, 0.06, 72, 6144),
    SizePlan(512, 512, 0.22, 40, 12288),
    SizePlan(576, 448, 0.06, 40, 4096),
    SizePlan(448, 576, 0.06, 40, 4096),
    SizePlan(768, 768, 0.06, 18, 3072),
)
TINY_SIZES = (SizePlan(64, 64, 0.7, 4, 16), SizePlan(96, 64, 0.3, 4, 8))


CAPTIONS, POOLS = "captions.pt", "pools.pt"


@dataclass(frozen=True, slots=True)
class Scale:
    """What a dry run on a CPU makes smaller; stages and code are the same."""

    shape: ModelShape
    sizes: tuple[SizePlan, ...]
    vae_batch: int
    vae_size: int
    classifier_steps: int
    references: int
    check_sizes: tuple[tuple[int, int], ...]
    groups: int | None


FULL = Scale(ModelShape(), SIZES, 16, 256, 350, 4096, ((256, 4), (512, 4), (768, 4), (512, 8)), None)
TINY = Scale(TINY_SHAPE, TINY_SIZES, 2, 64, 3, 256, ((64, 4),), 60)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m models.recipe", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/starter"), help="checkpoints, log, pictures and model")
    parser.add_argument("--vae-seconds", type=float, default=300)
    parser.add_argument("--flow-seconds", type=float, default=780)
    parser.add_argument("--distill-seconds", type=float, default=240)
    parser.add_argument("--guidance", type=float, default=0.7, help="guidance that distillation builds in")
    parser.add_argument("--pool-share", type=float, default=1.0, help="smaller pools of pictures for a shorter run")
    parser.add_argument("--captions", type=int, default=500, help="held-out captions to measure on")
    parser.add_argument("--stop-after", type=float, default=float("inf"), help="seconds until a run that resumes later")
    parser.add_argument("--until", choices=("vae", "flow", "end"), default="end")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--tiny", action="store_true", help="a dry run of seconds on a CPU")
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
    torch.manual_seed(0)
    tokenizer = load_tokenizer(run)
    vae = build_vae(scale.shape).to(device)
    train_vae(vae, run, arguments.vae_seconds, scale.vae_batch, scale.vae_size, compiled=not arguments.no_compile)
    vae.eval().requires_grad_(False)
    if arguments.until == "vae":
        return
    learners = Learners(
        build_text_encoder(scale.shape, tokenizer).to(device),
        BatchedDenoiser(build_transformer(scale.shape).to(device), device.type == "cuda" and not arguments.no_compile),
    )
    _train(arguments, run, scale, tokenizer, vae, learners)
    if arguments.until == "end":
        _finish(
            arguments, run, scale, Painter(tokenizer, learners.encoder.eval(), learners.denoiser.eval(), vae, device)
        )


def _train(  # noqa: PLR0917
    arguments: argparse.Namespace,
    run: Run,
    scale: Scale,
    tokenizer: PreTrainedTokenizerFast,
    vae: Vae,
    learners: Learners,
) -> None:
    captions = load_captions(run, tokenizer, scale.groups)
    run.log("captions", tables=len(captions))
    sizes = [replace(size, pool=max(2, int(size.pool * arguments.pool_share))) for size in scale.sizes]
    data = Data(captions, list(zip(sizes, load_pools(run, vae, sizes), strict=True)))
    run.log("pools", pictures=sum(size.pool for size in sizes))
    train_flow(learners, data, run, arguments.flow_seconds)
    if arguments.until == "end" and arguments.distill_seconds > 0 and not run.must_stop:
        train_distilled(learners, data, run, arguments.distill_seconds, arguments.guidance)


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
        generator = torch.Generator(run.device).manual_seed(21)
        pools = [build_latent_pool(vae, size, generator, i) for i, size in enumerate(sizes)]
        run.save(POOLS, {str(i): asdict(pool) for i, pool in enumerate(pools)})
        return pools
    return [LatentPool(**state[str(i)]) for i in range(len(sizes))]


def _finish(arguments: argparse.Namespace, run: Run, scale: Scale, painter: Painter) -> None:
    size = export_pipeline(
        painter.tokenizer, painter.encoder, painter.denoiser.transformer, painter.vae, run.path("model")
    )
    run.log("export", bytes=size)
    for part in (painter.encoder, painter.denoiser, painter.vae):
        part.to(torch.bfloat16).float()  # measure what was written
    side, tile = (512, 128) if not arguments.tiny else (64, 64)
    contact_sheet(painter, side, tile, 14).save(run.path("contact-sheet.png"))
    contact_sheet(painter, side, side, 4, 8).save(run.path("samples.png"))
    loss_plot(run.path("log.jsonl")).save(run.path("losses.png"))
    network, sure = train_classifier(run.device, scale.classifier_steps, 256 if not arguments.tiny else 16)
    run.save("classifier.pt", {"network": network.state_dict()})
    references = reference_colours(run.device, scale.references)
    results: dict[str, object] = {"classifier_on_renders": sure, "bytes": size}
    results["colour_measure_on_renders"] = measure_ruler(network, references, run.device)
    measured = []
    for pixels, forwards in scale.check_sizes:
        count = arguments.captions if pixels <= side and forwards == 4 else min(arguments.captions, 100)
        started = time.monotonic()
        measured.append(measure(painter, network, references, count=count, size=pixels, forwards=forwards))
        run.log("measure", seconds_taken=round(time.monotonic() - started, 1), **measured[-1])
    results["measured"] = measured
    run.path("evaluation.json").write_text(json.dumps(results, indent=2) + "\n")
    run.log("done", **{k: v for k, v in results.items() if k != "measured"})


if __name__ == "__main__":
    main()

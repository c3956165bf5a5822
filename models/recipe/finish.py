"""What comes after training: figures, pictures and the folder."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.recipe.card import write_card
from models.recipe.evaluate import (
    build_classifier,
    measure,
    measure_ruler,
    measure_unknown,
    reference_colours,
    train_classifier,
)
from models.recipe.export import export_pipeline
from models.recipe.model import cast_parameters
from models.recipe.plots import contact_sheet, loss_plot
from models.recipe.progress import Run
from models.recipe.sampling import Painter

RULER = "ruler.pt"


@dataclass(frozen=True, slots=True)
class Ruler:
    """What pictures are measured with: the classifier of kinds, how sure it is, and the colours of rendered bodies."""

    network: nn.Sequential
    sure: float
    references: tuple[Tensor, list[int]]


@dataclass(frozen=True, slots=True)
class Examiner:
    """How a model is measured: `sizes` are (pixels, forwards), the others of `main` pixels on fewer captions."""

    classifier_steps: int = 350
    classifier_batch: int = 256
    references: int = 4096
    sizes: tuple[tuple[int, int], ...] = ((512, 4), (256, 4), (768, 4), (512, 8))
    main: int = 512
    sheet: int = 70
    tile: int = 128

    def ruler(self, run: Run) -> Ruler:
        """The ruler, made once per run folder."""
        state = run.load(RULER)
        if state is None:
            network, sure = train_classifier(run.device, self.classifier_steps, self.classifier_batch)
            colours, names = reference_colours(run.device, self.references)
            state = {"network": network.state_dict(), "sure": sure, "colours": colours, "names": names}
            run.save(RULER, state)
        network = build_classifier().to(run.device).eval()
        network.load_state_dict(state["network"])
        return Ruler(network, state["sure"], (state["colours"].cpu(), state["names"]))

    def measure(self, painter: Painter, run: Run, count: int, size: tuple[int, int], **notes: Any) -> dict[str, Any]:
        """Figures of `count` held-out captions at a size and number of forwards, logged."""
        started, ruler = time.monotonic(), self.ruler(run)
        pixels, forwards = size
        found = measure(painter, ruler.network, ruler.references, count=count, size=pixels, forwards=forwards)
        run.log("measure", seconds_taken=round(time.monotonic() - started, 1), **notes, **found)
        return found

    def glance(self, painter: Painter, run: Run, count: int) -> None:
        """Figures and samples of a model that is still learning."""
        self.measure(painter, run, count, (self.main, 4), model="so far")
        contact_sheet(painter, self.main, 2 * self.tile, 7, min(self.sheet, 28)).save(run.path("so-far.png"))


def write_model(painter: Painter, folder: Path) -> int:
    """Write the painter's networks as a pipeline and return its size in bytes."""
    return export_pipeline(painter.tokenizer, painter.encoder, painter.denoiser.transformer, painter.vae, folder)


def finish(painter: Painter, run: Run, examiner: Examiner, captions: int) -> None:
    """Write the model, then measure and picture what was written."""
    for part in (painter.encoder, painter.denoiser, painter.vae):
        cast_parameters(part, torch.bfloat16)
        cast_parameters(part, torch.float32)
    parameters = sum(p.numel() for m in (painter.encoder, painter.denoiser, painter.vae) for p in m.parameters())
    size = write_model(painter, run.path("model"))
    run.log("export", bytes=size)
    loss_plot(run.path("log.jsonl")).save(run.path("losses.png"))
    contact_sheet(painter, examiner.main, examiner.tile, 14, examiner.sheet).save(run.path("contact-sheet.png"))
    contact_sheet(painter, examiner.main, examiner.main, 4, 8).save(run.path("samples.png"))
    ruler = examiner.ruler(run)
    results: dict[str, Any] = {
        "bytes": size,
        "classifier_on_renders": ruler.sure,
        "colour_measure_on_renders": measure_ruler(ruler.network, ruler.references, run.device),
        "unknown_words_give_the_unsaid_thing": measure_unknown(
            painter, ruler.network, ruler.references, count=min(captions, 100), size=examiner.main
        ),
        "measured": [],
    }
    for number, pair in enumerate(examiner.sizes):
        count = captions if number < 2 else min(captions, 200)
        results["measured"].append(examiner.measure(painter, run, count, pair))
        run.path("evaluation.json").write_text(json.dumps(results, indent=2) + "\n")
        run.path("model/README.md").write_text(write_card(results, parameters))
    run.log("done", **{k: v for k, v in results.items() if k != "measured"})

"""What training reads, all on the GPU: tables of tokenised captions and pools of encoded pictures."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from models.recipe.captions import Subject, caption, lengthen, nonsense
from models.recipe.catalog import (
    BACKGROUNDS,
    COLOURS,
    KINDS,
    MATERIALS,
    UNSAID_BACKGROUND,
    UNSAID_COLOUR,
    UNSAID_KIND,
    is_held_out,
)
from models.recipe.data import random_subjects, render
from models.recipe.model import LATENT_CHANNELS, Vae
from models.recipe.tokenizer import chat

#: Captions of nothing in a table, beside the empty one.
NONSENSE = 4095
#: Share of the pictures in a pool that show the unsaid thing, and of their captions that say nothing of it.
UNSAID_PICTURES, UNSAID_CAPTIONS = 0.04, 0.6
GROUPS = len(KINDS) * len(COLOURS) * len(BACKGROUNDS) * len(MATERIALS)


def group_of(subject: Subject) -> int:
    """The row of a subject in the caption tables."""
    row = (subject.kind * len(COLOURS) + subject.colour) * len(BACKGROUNDS) + subject.background
    return row * len(MATERIALS) + subject.material


def subject_of(group: int) -> Subject:
    """The subject of a row of the caption tables."""
    row, material = divmod(group, len(MATERIALS))
    row, background = divmod(row, len(BACKGROUNDS))
    return Subject(*divmod(row, len(COLOURS)), background, material)


#: Where the rows of the unsaid thing begin, one for each material.
FIRST_UNSAID = group_of(Subject(UNSAID_KIND, UNSAID_COLOUR, UNSAID_BACKGROUND, 0))


@dataclass(frozen=True, slots=True)
class CaptionPlan:
    """Captions per subject in a table of `length` tokens, with this range of meaningless words around them."""

    length: int
    each: int
    words: tuple[int, int]


CAPTION_PLANS = (
    CaptionPlan(32, 20, (0, 0)),
    CaptionPlan(64, 6, (3, 11)),
    CaptionPlan(128, 2, (15, 28)),
    CaptionPlan(512, 1, (35, 120)),
)


@dataclass(frozen=True, slots=True)
class CaptionTable:
    """ids [GROUPS, each, length] padded right and lengths [GROUPS, each]; `empty` [captions, length]: of nothing.

    The first of these is the empty text, the others are nonsense: what names nothing asks for the unsaid thing.
    """

    ids: Tensor
    lengths: Tensor
    empty: Tensor
    empty_lengths: Tensor

    def to(self, device: torch.device) -> CaptionTable:
        """The same table on a device."""
        return CaptionTable(*(t.to(device) for t in (self.ids, self.lengths, self.empty, self.empty_lengths)))

    def sample(self, groups: Tensor) -> tuple[Tensor, Tensor]:
        """A random caption for each group; one of nothing for most of the unsaid thing's."""
        pick = torch.randint(self.ids.shape[1], groups.shape, device=groups.device)
        ids, lengths = self.ids[groups, pick].long(), self.lengths[groups, pick].long()
        unsaid = (groups >= FIRST_UNSAID) & (groups < FIRST_UNSAID + len(MATERIALS))
        dropped = unsaid & (torch.rand(groups.shape, device=groups.device) < UNSAID_CAPTIONS)
        nothing = torch.randint(len(self.empty), groups.shape, device=groups.device)
        ids = torch.where(dropped[:, None], self.empty[nothing], ids)
        return ids, torch.where(dropped, self.empty_lengths[nothing], lengths)


def tokenize(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], length: int) -> tuple[Tensor, Tensor]:
    """ids [N, length] padded right and lengths [N] of chats, cut at `length` as the pipeline would."""
    rows: list[list[int]] = tokenizer([chat(t) for t in texts]).input_ids
    ids = torch.full((len(rows), length), tokenizer.pad_token_id, dtype=torch.int16)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row[:length], dtype=torch.int16)
    return ids, torch.tensor([min(len(r), length) for r in rows], dtype=torch.int16)


def build_caption_table(
    tokenizer: PreTrainedTokenizerFast, plan: CaptionPlan, groups: Sequence[int], seed: int
) -> CaptionTable:
    """Write and tokenise `plan.each` captions for each of the groups (held-out ones are never asked for)."""
    rng = random.Random(seed)
    each = [partial(_write, group, plan, rng) for group in groups for _ in range(plan.each)]
    ids, lengths = tokenize(tokenizer, _fitting(tokenizer, plan.length, each), plan.length)
    nothing = [partial(_write_nothing, plan, rng)] * NONSENSE
    empty, empty_lengths = tokenize(tokenizer, ["", *_fitting(tokenizer, plan.length, nothing)], plan.length)
    table = torch.zeros(GROUPS, plan.each, plan.length, dtype=torch.int16)
    sizes = torch.ones(GROUPS, plan.each, dtype=torch.int16)
    table[list(groups)] = ids.view(len(groups), plan.each, plan.length)
    sizes[list(groups)] = lengths.view(len(groups), plan.each)
    return CaptionTable(table, sizes, empty.long(), empty_lengths.long())


def _write(group: int, plan: CaptionPlan, rng: random.Random) -> str:
    text = caption(subject_of(group), rng)
    return lengthen(text, rng, rng.randint(*plan.words)) if plan.words[1] else text


def _write_nothing(plan: CaptionPlan, rng: random.Random) -> str:
    return nonsense(rng, rng.randint(0, plan.words[1] or 4))


def _fitting(tokenizer: PreTrainedTokenizerFast, length: int, writers: Sequence[Callable[[], str]]) -> list[str]:
    """A text of each writer, anew until none is too long: cut off, it would ask for less than its picture shows."""
    texts, left = [write() for write in writers], list(range(len(writers)))
    while left:
        rows: list[list[int]] = tokenizer([chat(texts[i]) for i in left]).input_ids
        left = [i for i, row in zip(left, rows, strict=True) if len(row) > length]
        for i in left:
            texts[i] = writers[i]()
    return texts


def training_groups() -> list[int]:
    """Rows of the subjects that may be trained on."""
    subjects = ((g, subject_of(g)) for g in range(GROUPS))
    return [g for g, s in subjects if not is_held_out(s.kind, s.colour, s.background)]


@dataclass(frozen=True, slots=True)
class SizePlan:
    """A picture size in pixels, pictures per step and in the pool, and shares of the steps.

    `early` and `late` are the size's shares before and after the middle of the stage: small pictures teach what is
    asked for, quickly, and large ones then only how it looks at their size. `lengths` are the tokens of the captions
    that come with it and their shares.
    """

    height: int
    width: int
    batch: int
    pool: int
    early: float
    late: float
    lengths: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class LatentPool:
    """Encoded pictures [N, 16, h, w] in bfloat16 and their groups [N]."""

    latents: Tensor
    groups: Tensor

    def sample(self, count: int) -> tuple[Tensor, Tensor]:
        rows = torch.randint(len(self.groups), (count,), device=self.groups.device)
        return self.latents.index_select(0, rows).float(), self.groups.index_select(0, rows)


def pool_subjects(count: int, rng: random.Random) -> list[Subject]:
    """Subjects that may be trained on, with the unsaid thing more often than the others."""
    return [
        subject_of(FIRST_UNSAID + rng.randrange(len(MATERIALS))) if rng.random() < UNSAID_PICTURES else subject
        for subject in random_subjects(count, rng)
    ]


class PoolPainter:
    """Draws and encodes pools of pictures; the encoder computes in `dtype`, which is only faster."""

    def __init__(self, vae: Vae, dtype: torch.dtype, generator: torch.Generator) -> None:
        self._encoder = copy.deepcopy(vae.encoder).to(dtype)
        self._dtype, self._generator = dtype, generator
        self._shift, self._scale = vae.config.shift_factor, vae.config.scaling_factor

    @torch.no_grad()
    def paint(self, plan: SizePlan, seed: int) -> LatentPool:
        """The pool of one size."""
        rng, device = random.Random(seed), self._generator.device
        subjects = pool_subjects(plan.pool, rng)
        latents = torch.empty(
            plan.pool, LATENT_CHANNELS, plan.height // 8, plan.width // 8, dtype=torch.bfloat16, device=device
        )
        chunk = max(2, 256 * 65536 // (plan.height * plan.width))
        for start in range(0, plan.pool, chunk):
            part = latents[start : start + chunk]
            pictures = render(subjects[start : start + chunk], plan.height, plan.width, self._generator)
            mean = self._encoder(pictures.to(self._dtype)).chunk(2, dim=1)[0].float()
            part.copy_((mean - self._shift) * self._scale)
        return LatentPool(latents, torch.tensor([group_of(s) for s in subjects], device=device))

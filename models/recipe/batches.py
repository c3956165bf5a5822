"""What training reads, all on the GPU: tables of tokenised captions and pools of encoded pictures."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from models.recipe.captions import Subject, caption, lengthen
from models.recipe.catalog import BACKGROUNDS, COLOURS, KINDS, MATERIALS, is_held_out
from models.recipe.data import random_subjects, render
from models.recipe.model import Vae
from models.recipe.tokenizer import chat

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


@dataclass(frozen=True, slots=True)
class CaptionPlan:
    """Captions per subject in a table of `length` tokens, with this range of meaningless words around them."""

    length: int
    each: int
    words: tuple[int, int]
    share: float


CAPTION_PLANS = (
    CaptionPlan(32, 20, (0, 0), 0.80),
    CaptionPlan(64, 6, (4, 11), 0.15),
    CaptionPlan(128, 2, (15, 28), 0.05),
)


@dataclass(frozen=True, slots=True)
class CaptionTable:
    """ids [GROUPS, each, length] padded right and lengths [GROUPS, each]; `empty` is the caption of nothing."""

    ids: Tensor
    lengths: Tensor
    empty: Tensor
    empty_length: int

    def to(self, device: torch.device) -> CaptionTable:
        """The same table on a device."""
        return CaptionTable(self.ids.to(device), self.lengths.to(device), self.empty.to(device), self.empty_length)

    def sample(self, groups: Tensor, drop: float) -> tuple[Tensor, Tensor]:
        """A random caption for each group, replaced by the empty one with probability `drop`."""
        pick = torch.randint(self.ids.shape[1], groups.shape, device=groups.device)
        ids, lengths = self.ids[groups, pick].long(), self.lengths[groups, pick].long()
        dropped = torch.rand(groups.shape, device=groups.device) < drop
        ids = torch.where(dropped[:, None], self.empty[None], ids)
        return ids, torch.where(dropped, self.empty_length, lengths)


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
    texts = [_write(group, plan, rng) for group in groups for _ in range(plan.each)]
    ids, lengths = tokenize(tokenizer, texts, plan.length)
    empty, empty_length = tokenize(tokenizer, [""], plan.length)
    table = torch.zeros(GROUPS, plan.each, plan.length, dtype=torch.int16)
    sizes = torch.ones(GROUPS, plan.each, dtype=torch.int16)
    table[list(groups)] = ids.view(len(groups), plan.each, plan.length)
    sizes[list(groups)] = lengths.view(len(groups), plan.each)
    return CaptionTable(table, sizes, empty[0].long(), int(empty_length[0]))


def _write(group: int, plan: CaptionPlan, rng: random.Random) -> str:
    text = caption(subject_of(group), rng)
    return lengthen(text, rng, rng.randint(*plan.words)) if plan.words[1] else text


def training_groups() -> list[int]:
    """Rows of the subjects that may be trained on."""
    subjects = ((g, subject_of(g)) for g in range(GROUPS))
    return [g for g, s in subjects if not is_held_out(s.kind, s.colour, s.background)]


@dataclass(frozen=True, slots=True)
class SizePlan:
    """A picture size in pixels, its share of the steps, pictures per step and pictures in the pool."""

    height: int
    width: int
    share: float
    batch: int
    pool: int


@dataclass(frozen=True, slots=True)
class LatentPool:
    """Encoded pictures [N, 16, h, w] in bfloat16 and their groups [N]."""

    latents: Tensor
    groups: Tensor

    def sample(self, count: int) -> tuple[Tensor, Tensor]:
        rows = torch.randint(len(self.groups), (count,), device=self.groups.device)
        return self.latents[rows].float(), self.groups[rows]


@torch.no_grad()
def encode_pictures(vae: Vae, pictures: Tensor) -> Tensor:
    """Latents on the transformer's scale."""
    with torch.autocast(pictures.device.type, torch.bfloat16, enabled=pictures.is_cuda):
        mean = vae.encode(pictures).latent_dist.mean.float()
    latents: Tensor = (mean - vae.config.shift_factor) * vae.config.scaling_factor
    return latents


def build_latent_pool(vae: Vae, plan: SizePlan, generator: torch.Generator, seed: int) -> LatentPool:
    """Draw and encode the pool of one size."""
    rng, latents, groups = random.Random(seed), [], []
    chunk = max(2, min(plan.pool, 256 * 65536 // (plan.height * plan.width)))
    for start in range(0, plan.pool, chunk):
        subjects = random_subjects(min(chunk, plan.pool - start), rng)
        pictures = render(subjects, plan.height, plan.width, generator)
        latents.append(encode_pictures(vae, pictures).to(torch.bfloat16))
        groups += [group_of(s) for s in subjects]
    return LatentPool(torch.cat(latents), torch.tensor(groups, device=generator.device))

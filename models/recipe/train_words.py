"""Third stage: unknown words are taught by the model itself, in words that it knows.

What is left unsaid or names nothing means the unsaid thing, a brown box on white. The model already draws that when it
is asked for it plainly, so its own answer to plain words is the lesson for the others: a target without the noise of
pictures, which a few hundred steps learn. Only the text's side learns; what draws stays exactly as good as it was.
"""

from __future__ import annotations

import copy
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from models.recipe.batches import subject_of, tokenize, training_groups
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
from models.recipe.model import CAPTION_MULTIPLE, LATENT_CHANNELS, encode_text, inference_sigmas
from models.recipe.progress import Run, StageClock, learning_rate
from models.recipe.tokenizer import chat
from models.recipe.train_diffusion import FORWARDS, Learners
from models.recipe.weights import Weights

CHECKPOINT = "words.pt"
BATCH, LOG_STEPS = 16, 20
RATE, WARM_UP, HOLD, FORGET = 4e-4, 50, 0.5, 0.005
#: Tokens of the captions, how many words stand around them, and their shares.
LENGTHS = ((32, (0, 4), 0.75), (64, (3, 11), 0.2), (128, (15, 28), 0.05))
#: Shares of the pairs: all is said (and stays as it is), parts are unsaid, one part alone; the others name nothing.
KNOWN, PARTLY, BARE = 0.4, 0.15, 0.2
#: Share of the empty text among those that name nothing.
EMPTY = 0.1
#: Which parts go unsaid, as bits.
KIND, COLOUR, BACKGROUND = 1, 2, 4


@dataclass(frozen=True, slots=True)
class Pair:
    """What the student reads, and what it should understand, in words that the teacher knows."""

    asked: str
    meant: str


@dataclass(frozen=True, slots=True)
class Sight:
    """A moment of the teacher's drawing: noisy latents, the noise level, and the velocity that it gives there."""

    latents: Tensor
    sigma: float
    velocity: Tensor


class PairWriter:
    """Writes pairs; combinations that are held out are never among them."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, rng: random.Random) -> None:
        self._tokenizer, self._rng = tokenizer, rng
        self._groups = training_groups()

    def write(self, count: int) -> list[Pair]:
        """Pairs of one kind of length: all of them fill the same multiples of 32 tokens."""
        length, words, _ = self._rng.choices(LENGTHS, [share for *_, share in LENGTHS])[0]
        knows = self._rng.random() < 0.5
        pairs: list[Pair] = []
        while len(pairs) < count:
            pair = self._short() if length == CAPTION_MULTIPLE else self._long(words, knows)
            if length - CAPTION_MULTIPLE < self._tokens(pair.asked) <= length and self._is_plain(pair):
                pairs.append(pair)
        return pairs

    def _tokens(self, text: str) -> int:
        return len(self._tokenizer(chat(text)).input_ids)

    def _is_plain(self, pair: Pair) -> bool:
        return pair.asked == pair.meant or self._tokens(pair.meant) <= CAPTION_MULTIPLE

    def _short(self) -> Pair:
        share = self._rng.random()
        if share < KNOWN:
            text = self._everything_of(self._known())
            return Pair(text, text)
        if share < KNOWN + PARTLY:
            subject = self._partly_unsaid(self._rng.randrange(1, 7))
            return Pair(caption(subject, self._rng), self._plain(subject))
        if share < KNOWN + PARTLY + BARE:
            return self._bare()
        text = "" if self._rng.random() < EMPTY else nonsense(self._rng, self._rng.randint(0, 4))
        return Pair(text, self._nothing())

    def _bare(self) -> Pair:
        """One part alone: a thing, a colour or a place."""
        unsaid = self._rng.choice((COLOUR | BACKGROUND, KIND | BACKGROUND, KIND | COLOUR))
        subject = self._partly_unsaid(unsaid)
        said = COLOURS[subject.colour] if unsaid == KIND | BACKGROUND else BACKGROUNDS[subject.background]
        if not unsaid & KIND:
            said = KINDS[subject.kind]
        return Pair(self._rng.choice((*said.english, *said.chinese)), self._plain(subject))

    def _long(self, words: tuple[int, int], knows: bool) -> Pair:
        count = self._rng.randint(*words)
        if not knows:
            return Pair(nonsense(self._rng, count), self._nothing())
        text = lengthen(self._everything_of(self._known()), self._rng, count)
        return Pair(text, text)

    def _everything_of(self, subject: Subject) -> str:
        """A caption that leaves nothing out, in any order of words where it has nothing that could be left out."""
        unsaid = (UNSAID_KIND, UNSAID_COLOUR, UNSAID_BACKGROUND)
        parts = zip((subject.kind, subject.colour, subject.background), unsaid, strict=True)
        return caption(subject, self._rng, plain=any(part == other for part, other in parts))

    def _known(self) -> Subject:
        return subject_of(self._rng.choice(self._groups))

    def _partly_unsaid(self, unsaid: int) -> Subject:
        """A subject with the unsaid thing's own kind, colour or background in these parts."""
        while True:
            known = self._known()
            kind = UNSAID_KIND if unsaid & KIND else known.kind
            colour = UNSAID_COLOUR if unsaid & COLOUR else known.colour
            background = UNSAID_BACKGROUND if unsaid & BACKGROUND else known.background
            if not is_held_out(kind, colour, background):
                return Subject(kind, colour, background, known.material)

    def _nothing(self) -> str:
        return self._plain(Subject(UNSAID_KIND, UNSAID_COLOUR, UNSAID_BACKGROUND, self._rng.randrange(len(MATERIALS))))

    def _plain(self, subject: Subject) -> str:
        material = f"{MATERIALS[subject.material].name} " if self._rng.random() < 0.35 else ""
        thing = f"{material}{COLOURS[subject.colour].name} {KINDS[subject.kind].name}"
        return f"a {thing} {BACKGROUNDS[subject.background].name}"


def text_side(learners: Learners) -> list[nn.Parameter]:
    """The parameters that read: the encoder's, and the transformer's before captions meet pictures."""
    transformer = learners.denoiser.transformer
    read: list[Any] = [learners.encoder.embed_tokens, *learners.encoder.layers[:-1]]
    read += [transformer.cap_embedder, *transformer.context_refiner]
    return [*(p for module in read for p in module.parameters()), transformer.cap_pad_token]


def train_words(learners: Learners, tokenizer: PreTrainedTokenizerFast, run: Run, seconds: float, pixels: int) -> None:
    """Teach the text's side in place for `seconds` (resuming), at `pixels` x `pixels`; it ends as its average."""
    teacher = _freeze_all_but_the_text_side(learners)
    weights = Weights(text_side(learners), torch.float32, weight_decay=0.0)
    state = run.load(CHECKPOINT) or {}
    if state:
        weights.restore(state["weights"])
    step, clock = int(state.get("step", 0)), StageClock(seconds, state.get("elapsed", 0.0))
    writer = PairWriter(tokenizer, random.Random(step))
    torch.manual_seed(step)
    while not (clock.over or run.must_stop):
        lesson = prepare_lesson(teacher, tokenizer, writer, run.device, pixels)
        for sight in lesson.sights:
            weights.set_pace(learning_rate(RATE, step, clock.fraction, WARM_UP, HOLD), max(FORGET, 9 / (10 + step)))
            loss = study(learners, lesson, sight)
            weights.update()
            step += 1
        if step % LOG_STEPS == 0:
            run.log("words", step=step, loss=round(loss.item(), 6))
        if clock.checkpoint_due():
            run.save(CHECKPOINT, {"weights": weights.state(), "step": step, "elapsed": clock.elapsed})
    run.save(CHECKPOINT, {"weights": weights.state(), "step": step, "elapsed": clock.elapsed})
    weights.settle()
    run.log("words", step=step, worked=round(clock.elapsed, 1), done=clock.over)


def _freeze_all_but_the_text_side(learners: Learners) -> Learners:
    """Let the text's side alone learn; returns a copy of the learners as they are, which teaches."""
    for module in (learners.encoder, learners.denoiser):
        module.requires_grad_(False)
    teacher = copy.deepcopy(learners)
    for parameter in text_side(learners):
        parameter.requires_grad_(True)
    return teacher


@dataclass(frozen=True, slots=True)
class Lesson:
    """A batch: ids [N, L] and lengths [N] of what is asked, and sights of the teacher drawing what is meant."""

    ids: Tensor
    lengths: Tensor
    sights: tuple[Sight, ...]


@torch.no_grad()
def prepare_lesson(
    teacher: Learners, tokenizer: PreTrainedTokenizerFast, writer: PairWriter, device: torch.device, pixels: int
) -> Lesson:
    """A batch of pairs and the teacher's pictures of them: its first step, which decides what is drawn, and another."""
    pairs = writer.write(BATCH)
    asked, meant = (
        _tokenized(tokenizer, texts, device) for texts in ([p.asked for p in pairs], [p.meant for p in pairs])
    )
    noise = torch.randn(BATCH, LATENT_CHANNELS, pixels // 8, pixels // 8, device=device)
    first, *others = draw(teacher, *meant, noise)
    return Lesson(*asked, (first, others[int(torch.randint(len(others), ()))]))


def _tokenized(tokenizer: PreTrainedTokenizerFast, texts: list[str], device: torch.device) -> tuple[Tensor, Tensor]:
    longest = max(len(ids) for ids in tokenizer([chat(text) for text in texts]).input_ids)
    ids, lengths = tokenize(tokenizer, texts, -(-longest // CAPTION_MULTIPLE) * CAPTION_MULTIPLE)
    return ids.long().to(device), lengths.long().to(device)


def draw(teacher: Learners, ids: Tensor, lengths: Tensor, noise: Tensor) -> Iterator[Sight]:
    """The sights of a picture's way from noise, in the preset's forwards."""
    features, latents = encode_text(teacher.encoder, ids), noise
    for here, there in itertools.pairwise(inference_sigmas(FORWARDS)):
        velocity = _velocity(teacher, latents, here, features, lengths)
        yield Sight(latents, here, velocity)
        latents = latents + (there - here) * velocity


def study(learners: Learners, lesson: Lesson, sight: Sight) -> Tensor:
    """Add the gradients of how far the student's picture at this sight is from the teacher's; returns that error."""
    features = encode_text(learners.encoder, lesson.ids)
    velocity = _velocity(learners, sight.latents, sight.sigma, features, lesson.lengths)
    loss: Tensor = ((velocity - sight.velocity) * sight.sigma).square().mean()
    loss.backward()
    return loss.detach()


def _velocity(learners: Learners, latents: Tensor, sigma: float, features: Tensor, lengths: Tensor) -> Tensor:
    with torch.compiler.set_stance("force_eager"):  # compiled blocks would compile anew for float32
        velocity: Tensor = learners.denoiser(latents, latents.new_full((len(latents),), sigma), features, lengths)
    return velocity

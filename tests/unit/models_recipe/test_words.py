"""Words that name nothing: how they are written, and how the text's side learns what they mean."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from models.recipe.captions import nonsense  # noqa: E402
from models.recipe.catalog import (  # noqa: E402
    BACKGROUNDS,
    COLOURS,
    KINDS,
    UNSAID_BACKGROUND,
    UNSAID_COLOUR,
    UNSAID_KIND,
    is_held_out,
)
from models.recipe.progress import Run  # noqa: E402
from models.recipe.tokenizer import build_tokenizer, chat  # noqa: E402
from models.recipe.train_words import Pair, PairWriter, prepare_lesson, study, text_side, train_words  # noqa: E402
from models.recipe.weights import Weights  # noqa: E402
from tests.unit.models_recipe.test_training import learners_of  # noqa: E402

CPU = torch.device("cpu")
PIXELS = 64


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(2000)


@pytest.fixture(scope="module")
def pairs(tokenizer) -> list[list[Pair]]:
    writer = PairWriter(tokenizer, random.Random(4))
    return [writer.write(8) for _ in range(40)]


def test_words_of_nothing_never_name_a_kind_or_a_colour() -> None:
    rng = random.Random(2)
    names = "|".join(word for thing in (*KINDS, *COLOURS) for word in thing.english)

    assert [text for text in (nonsense(rng, 3) for _ in range(2000)) if re.search(rf"\b({names})\b", text)] == []


def test_words_of_nothing_hold_names_as_parts_of_other_words() -> None:
    rng = random.Random(2)
    names = "|".join(kind.name for kind in KINDS)

    assert len([text for text in (nonsense(rng, 3) for _ in range(200)) if re.search(rf"\b({names})\w", text)]) > 10


def test_pairs_of_a_batch_fill_the_same_multiple_of_tokens(tokenizer, pairs) -> None:
    def multiples(texts: list[str]) -> set[int]:
        return {-(-len(tokenizer(chat(text)).input_ids) // 32) for text in texts}

    for batch in pairs:
        assert len(multiples([pair.asked for pair in batch])) == len(multiples([pair.meant for pair in batch])) == 1
    assert {*multiples([pair.asked for batch in pairs for pair in batch])} == {1, 2, 4}


def test_what_is_said_stays_and_what_is_not_means_a_part_of_a_brown_box_on_white(pairs) -> None:
    flat = [pair for batch in pairs for pair in batch]
    kept = [pair for pair in flat if pair.asked == pair.meant]
    taught = [pair for pair in flat if pair.asked != pair.meant]
    plain = [pair for pair in taught if " brown box " in pair.meant and pair.meant.endswith("white background")]

    assert min(len(kept), len(plain), len(taught) - len(plain)) > 20
    for pair in taught:
        assert "brown" in pair.meant or "box" in pair.meant or "on a white background" in pair.meant, pair


def test_a_thing_a_colour_or_a_place_alone_is_completed(pairs) -> None:
    meant = {p.asked: subject_of(p.meant) for batch in pairs for p in batch if p.asked != p.meant}
    alone = {
        part: {word: i for i, words in enumerate(named) for word in (*words.english, *words.chinese)}
        for part, named in enumerate((KINDS, COLOURS, BACKGROUNDS))
    }

    for part, words in alone.items():
        asked = words.keys() & meant.keys()
        assert len(asked) > 3
        for word in asked:
            thing = [UNSAID_KIND, UNSAID_COLOUR, UNSAID_BACKGROUND]
            thing[part] = words[word]
            assert meant[word] == tuple(thing)


def subject_of(plain: str) -> tuple[int, int, int]:
    """Kind, colour and background of a plain text."""
    (background,) = (i for i, place in enumerate(BACKGROUNDS) if plain.endswith(f" {place.name}"))
    thing = plain.removesuffix(f" {BACKGROUNDS[background].name}")
    (kind,) = (i for i, words in enumerate(KINDS) if thing.endswith(f" {words.name}"))
    (colour,) = (i for i, words in enumerate(COLOURS) if f" {words.name} {KINDS[kind].name}" in thing)
    return kind, colour, background


def test_combinations_that_are_held_out_are_never_meant(pairs) -> None:
    taught = [pair.meant for batch in pairs for pair in batch if pair.asked != pair.meant]
    subjects = {subject_of(text) for text in taught}

    assert len(subjects) > 40
    assert [subject for subject in subjects if is_held_out(*subject)] == []


def test_studying_brings_unknown_words_to_what_they_mean(tokenizer) -> None:
    student, teacher = learners_of(tokenizer, spread=0.05), learners_of(tokenizer, spread=0.05)
    weights = Weights(text_side(student), torch.float32, 0.0)
    torch.manual_seed(3)
    lesson = prepare_lesson(teacher, tokenizer, OnePair(tokenizer), CPU, PIXELS)
    weights.set_pace(3e-3, 1.0)

    errors = []
    for _ in range(30):
        errors.append(float(study(student, lesson, lesson.sights[0])))
        weights.update()

    assert errors[-1] < errors[0] / 4


class OnePair(PairWriter):
    """Writes the same pair again and again."""

    def __init__(self, tokenizer) -> None:
        super().__init__(tokenizer, random.Random(1))

    def write(self, count: int) -> list[Pair]:
        return [Pair("dragon", "a brown box on a white background")] * count


class StoppedRun(Run):
    """Stops after four looks."""

    looks = 0

    @property
    def must_stop(self) -> bool:
        self.looks += 1
        return self.looks > 4


def test_only_the_texts_side_learns_and_a_stopped_stage_goes_on(tokenizer, tmp_path: Path) -> None:
    before, learners = learners_of(tokenizer, spread=0.05), learners_of(tokenizer, spread=0.05)
    stopped = StoppedRun(tmp_path, CPU)
    train_words(learners, tokenizer, stopped, 1000.0, PIXELS)
    first = stopped.load("words.pt")
    assert first is not None

    run = Run(tmp_path, CPU)
    train_words(learners, tokenizer, run, float(first["elapsed"]) + 0.5, PIXELS)

    then = run.load("words.pt")
    assert then is not None
    assert then["step"] > first["step"] == 8
    learned = {id(parameter) for parameter in text_side(learners)}
    for old, new in (
        *zip(before.denoiser.parameters(), learners.denoiser.parameters(), strict=True),
        *zip(before.encoder.parameters(), learners.encoder.parameters(), strict=True),
    ):
        assert torch.equal(old, new) == (id(new) not in learned)

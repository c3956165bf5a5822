"""The starter model's recipe: what it draws, says and computes."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from diffusers import ZImagePipeline  # noqa: E402

from models.recipe.__main__ import SIZES  # noqa: E402
from models.recipe.batches import CAPTION_PLANS, GROUPS, group_of, subject_of, training_groups  # noqa: E402
from models.recipe.captions import Subject, caption, nonsense  # noqa: E402
from models.recipe.card import write_card  # noqa: E402
from models.recipe.catalog import (  # noqa: E402
    BACKGROUNDS,
    BARE,
    COLOURS,
    KINDS,
    ONE_SIDED,
    UNSAID_COLOUR,
    UNSAID_KIND,
    WHITE,
    is_held_out,
)
from models.recipe.data import random_subjects, render  # noqa: E402
from models.recipe.evaluate import body_colour, name_colour, reference_colours, white_border  # noqa: E402
from models.recipe.export import export_pipeline  # noqa: E402
from models.recipe.model import (  # noqa: E402
    TINY_SHAPE,
    BatchedDenoiser,
    build_text_encoder,
    build_transformer,
    build_vae,
    inference_sigmas,
)
from models.recipe.plots import loss_plot  # noqa: E402
from models.recipe.progress import Run  # noqa: E402
from models.recipe.sampling import Painter  # noqa: E402
from models.recipe.tokenizer import build_tokenizer, chat  # noqa: E402
from models.recipe.train_vae import CHECKPOINT, Lesson, train_vae  # noqa: E402

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(2000)


def test_a_white_background_is_white_at_the_border_and_a_scene_is_not() -> None:
    subjects = [Subject(k, 0, WHITE, 0) for k in range(len(KINDS))] + [Subject(0, 0, b, 0) for b in range(1, 6)]

    pictures = render(subjects, 96, 128, torch.Generator().manual_seed(0)) / 2 + 0.5

    borders = [white_border(p) for p in pictures]
    assert min(borders[: len(KINDS)]) == 1.0
    assert max(borders[len(KINDS) :]) < 0.9


def test_the_colour_measure_names_the_colours_of_drawn_objects() -> None:
    references = reference_colours(CPU, 1024)
    subjects = random_subjects(120, random.Random(9), held_out=True)

    pictures = render(subjects, 128, 128, torch.Generator().manual_seed(9)) / 2 + 0.5

    named = [name_colour(body_colour(p, s.kind), references) for p, s in zip(pictures, subjects, strict=True)]
    right = sum(n == s.colour for n, s in zip(named, subjects, strict=True))
    assert right / len(subjects) >= 0.95


def test_the_same_seed_draws_the_same_picture_and_another_seed_another() -> None:
    subject = [Subject(0, 0, 1, 1)]

    first, again, other = (render(subject, 64, 64, torch.Generator().manual_seed(s)) for s in (1, 1, 2))

    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_held_out_combinations_are_never_among_the_training_groups() -> None:
    subjects = [subject_of(g) for g in training_groups()]

    assert not any(is_held_out(s.kind, s.colour, s.background) for s in subjects)
    assert 0.85 * GROUPS < len(subjects) < GROUPS
    assert all(group_of(subject_of(g)) == g for g in range(GROUPS))


def test_every_kind_and_colour_has_held_out_combinations() -> None:
    subjects = random_subjects(2000, random.Random(0), held_out=True)

    assert {s.kind for s in subjects} == set(range(len(KINDS)))
    assert {s.colour for s in subjects} == set(range(len(COLOURS)))


def test_a_plain_caption_names_its_colour_in_english_or_chinese() -> None:
    rng = random.Random(4)
    for subject in random_subjects(300, rng):
        text = caption(subject, rng, plain=True)
        words = COLOURS[subject.colour]
        assert any(w in text for w in (*words.english, *words.chinese)), text


@pytest.mark.parametrize("text", ["a red mug", "一个红色的杯子", "кружка", "\x00\U0001f642 ﷽", ""])
def test_any_text_encodes_without_unknown_tokens(tokenizer, text: str) -> None:
    ids = tokenizer(chat(text)).input_ids

    assert ids
    assert None not in ids
    assert max(ids) < len(tokenizer)


def test_the_chat_template_is_what_training_saw_whether_or_not_it_thinks(tokenizer) -> None:
    messages = [{"role": "user", "content": "a red mug"}]
    for thinking in (True, False):
        text = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, enable_thinking=thinking
        )
        assert text == chat("a red mug")


def test_four_forwards_stand_where_the_noise_scheduler_puts_them() -> None:
    assert inference_sigmas(4) == pytest.approx([1.0, 0.9, 0.75, 0.5, 0.0])


@pytest.mark.parametrize("size", [(64, 64), (96, 112)])
def test_the_batched_pass_paints_what_the_exported_pipeline_paints(
    tokenizer, tmp_path: Path, size: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    vae = build_vae(TINY_SHAPE).eval()
    encoder, transformer = build_text_encoder(TINY_SHAPE, tokenizer).eval(), build_transformer(TINY_SHAPE).eval()
    with torch.no_grad():  # an untrained transformer hears no caption
        for parameter in transformer.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    export_pipeline(tokenizer, encoder, transformer, vae, tmp_path)
    pipeline = ZImagePipeline.from_pretrained(tmp_path, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    text, seed = "a red mug on a white background", 5

    whole = pipeline(
        text,
        height=size[0],
        width=size[1],
        num_inference_steps=4,
        guidance_scale=0.0,
        generator=torch.Generator().manual_seed(seed),
        output_type="pt",
    ).images[0]
    denoiser = BatchedDenoiser(pipeline.transformer)
    painter = Painter(pipeline.tokenizer, pipeline.text_encoder, denoiser, pipeline.vae, CPU)
    batched, other = painter.paint([text, "一个蓝色的球，海滩上"], [seed, seed], *size)

    assert torch.allclose(whole, batched, atol=1e-4)
    assert (other - batched).abs().mean() > 1e-3


def test_a_vae_that_was_stopped_goes_on_from_its_checkpoint_and_is_done_once(tmp_path: Path) -> None:
    lessons = (Lesson(32, 2, 4, 0.5), Lesson(64, 2, 4, 1.0))
    first = None
    for patience in (0.2, 1.0, 5.0, 25.0):  # a busy machine may be stopped before its first step
        stopped = Run(tmp_path, CPU, stop_after=patience)
        train_vae(build_vae(TINY_SHAPE), stopped, 1000.0, lessons)
        first = stopped.load(CHECKPOINT)
        if first is not None:
            break
    assert first is not None
    assert first["step"] > 0

    vae = build_vae(TINY_SHAPE)
    train_vae(vae, Run(tmp_path, CPU), 2 * first["elapsed"] + 0.5, lessons)

    done = Run(tmp_path, CPU).load(CHECKPOINT)
    assert done is not None
    assert done["done"]
    again = build_vae(TINY_SHAPE)
    train_vae(again, Run(tmp_path, CPU), 1000.0, lessons)
    assert torch.equal(again.encoder.conv_in.weight, vae.encoder.conv_in.weight)
    assert again.config.scaling_factor == vae.config.scaling_factor != 1.0
    ends = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [end["step"] > first["step"] for end in ends if "done" in end][-2:] == [False, True]


def test_the_card_says_what_was_measured_what_it_is_not_and_how_to_get_the_real_model() -> None:
    figures = {"size": 512, "forwards": 4, "captions": 500, "colour_right": 0.957, "kind_right": 0.861}
    results = {
        "bytes": 19_300_000,
        "colour_measure_on_renders": 1.0,
        "classifier_on_renders": 0.99,
        "unknown_words_give_the_unsaid_thing": 0.97,
        "measured": [{**figures, "white_border": 0.9991}],
    }

    card = write_card(results, 9_600_000)

    assert "| 512x512 | 4 | 500 | 95.7% | 86.1% | 99.91% |" in card
    assert "19.3 MB, 9.60 million parameters" in card
    assert "answered 97% of 100 prompts without a known word so" in card
    assert "not Z-Image-Turbo" in card
    assert "ZIMG_MODEL=Tongyi-MAI/Z-Image-Turbo" in card
    assert all(word.name in card for word in (*KINDS, *COLOURS))


def test_the_losses_of_a_run_that_was_resumed_stand_one_after_the_other(tmp_path: Path) -> None:
    def plotted(name: str, seconds: list[float]) -> bytes:
        rows = [{"stage": "flow", "seconds": s, "loss": 1 / (1 + i)} for i, s in enumerate(seconds)]
        (tmp_path / name).write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        return loss_plot(tmp_path / name).tobytes()

    assert plotted("resumed", [10, 20, 5, 15]) == plotted("whole", [10, 20, 25, 35])


def test_a_mug_has_its_handle_on_the_right_in_every_picture() -> None:
    mug, black = next(iter(ONE_SIDED)), [c.name for c in COLOURS].index("black")
    pictures = render([Subject(mug, black, WHITE, 0)] * 12, 128, 128, torch.Generator().manual_seed(3))

    for picture in pictures:
        dark = (picture.amax(0) < -0.3)[56:72].any(0).int()
        starts, ends = ((dark.diff(prepend=dark[:1] * 0) == step).nonzero().flatten().tolist() for step in (1, -1))
        widths = [end - start for start, end in zip(starts, ends, strict=True)]
        assert widths[0] == max(widths), widths


def test_places_are_written_without_their_prepositions_too() -> None:
    rng, beach = random.Random(1), next(i for i, b in enumerate(BACKGROUNDS) if b.name == "on a beach")
    texts = [caption(Subject(2, 0, beach, 0), rng) for _ in range(400)]

    assert len(BARE) == len(BACKGROUNDS)
    assert any(text.startswith(("beach, ", "beach: ", "seaside, ")) for text in texts)
    assert any("the background is beach" in text for text in texts)
    assert not any("background is" in caption(Subject(2, 0, beach, 0), rng, plain=True) for _ in range(400))


def test_only_a_box_is_called_by_unknown_names_and_only_brown_and_white_go_unsaid() -> None:
    rng = random.Random(6)
    for _ in range(600):
        kind, colour, place = rng.randrange(len(KINDS)), rng.randrange(len(COLOURS)), rng.randrange(len(BACKGROUNDS))
        text = caption(Subject(kind, colour, place, 0), rng)
        names = {
            "kind": (kind == UNSAID_KIND, (*KINDS[kind].english, *KINDS[kind].chinese)),
            "colour": (colour == UNSAID_COLOUR, (*COLOURS[colour].english, *COLOURS[colour].chinese)),
            "place": (place == WHITE, (*BACKGROUNDS[place].english, *BACKGROUNDS[place].chinese, *BARE[place])),
        }
        for goes_unsaid, words in names.values():
            said = any(word.removesuffix(" background") in text for word in words)
            assert said or goes_unsaid, text


def test_other_weights_are_another_revision(tokenizer, tmp_path: Path) -> None:
    parts = build_text_encoder(TINY_SHAPE, tokenizer), build_transformer(TINY_SHAPE), build_vae(TINY_SHAPE)

    def revision(name: str) -> str:
        export_pipeline(tokenizer, *parts, tmp_path / name)
        return str(json.loads((tmp_path / name / "zimg.json").read_text())["revision"])

    first, again = revision("first"), revision("again")
    next(parts[1].parameters()).data.add_(1)

    assert first == again != revision("other")


def test_a_model_that_was_trained_on_is_written_as_one_that_was_not(tokenizer, tmp_path: Path) -> None:
    parts = build_text_encoder(TINY_SHAPE, tokenizer), build_transformer(TINY_SHAPE), build_vae(TINY_SHAPE)
    export_pipeline(tokenizer, *parts, tmp_path / "first")
    loaded = ZImagePipeline.from_pretrained(tmp_path / "first")

    export_pipeline(loaded.tokenizer, loaded.text_encoder, loaded.transformer, loaded.vae, tmp_path / "again")

    first, again = (
        {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("config.json")}
        for name in ("first", "again")
    )
    assert first == again


def test_nonsense_names_no_kind_colour_or_place() -> None:
    rng = random.Random(2)
    names = {word for words in (*KINDS, *COLOURS, *BACKGROUNDS) for word in words.english}

    assert not [text for text in (nonsense(rng, 3) for _ in range(300)) if names & set(text.split(", "))]


def test_things_stand_on_their_shadow() -> None:
    red, matte = [c.name for c in COLOURS].index("red"), 0
    kinds = [i for i, kind in enumerate(KINDS) if kind.name in {"mug", "ball", "box", "bowl", "vase"}]
    pictures = render([Subject(kind, red, WHITE, matte) for kind in kinds], 128, 128, torch.Generator().manual_seed(3))

    for picture in pictures:
        thing = picture[0] - picture[1] > 0.2
        foot = int(thing.any(1).nonzero().max())
        assert picture[:, foot + 2].mean(0).min() < 0.8


def test_long_captions_are_learned_from_too() -> None:
    lengths = {length for plan in SIZES for length, _ in plan.lengths}

    assert lengths == {plan.length for plan in CAPTION_PLANS}
    assert max(lengths) == 512  # where the pipeline cuts

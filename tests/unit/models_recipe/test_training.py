"""What the recipe trains with: weights in one buffer, batched passes, steps that a CUDA graph can hold."""

from __future__ import annotations

import copy
import itertools
import random
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from models.recipe.batches import (  # noqa: E402
    CAPTION_PLANS,
    FIRST_UNSAID,
    CaptionPlan,
    LatentPool,
    SizePlan,
    build_caption_table,
    group_of,
    pool_subjects,
    tokenize,
    training_groups,
)
from models.recipe.captions import Subject, caption  # noqa: E402
from models.recipe.catalog import MATERIALS, is_held_out  # noqa: E402
from models.recipe.data import random_subjects, render  # noqa: E402
from models.recipe.model import (  # noqa: E402
    TINY_SHAPE,
    BatchedDenoiser,
    ModelShape,
    build_text_encoder,
    build_transformer,
    build_vae,
    encode_text,
    inference_sigmas,
)
from models.recipe.progress import Run, learning_rate  # noqa: E402
from models.recipe.replay import Recorder  # noqa: E402
from models.recipe.tokenizer import build_tokenizer, chat  # noqa: E402
from models.recipe.train_diffusion import Data as TrainingData  # noqa: E402
from models.recipe.train_diffusion import FlowStep, Learners, train_flow  # noqa: E402
from models.recipe.train_vae import Lesson, PicturePool, reconstruction_loss  # noqa: E402
from models.recipe.weights import Weights  # noqa: E402

CPU = torch.device("cpu")
PLAN = SizePlan(64, 64, 4, 8, 1.0, 1.0, ((32, 1.0),))


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(2000)


def learners_of(tokenizer, shape: ModelShape = TINY_SHAPE, spread: float = 0.0) -> Learners:
    torch.manual_seed(0)
    encoder, transformer = build_text_encoder(shape, tokenizer), build_transformer(shape)
    with torch.no_grad():
        for parameter in [*encoder.parameters(), *transformer.parameters()]:
            parameter.add_(spread * torch.randn_like(parameter))
    return Learners(encoder, BatchedDenoiser(transformer))


def some_data(tokenizer) -> tuple[LatentPool, TrainingData]:
    groups = training_groups()[:6]
    pool = LatentPool(torch.randn(6, 16, 8, 8), torch.tensor(groups))
    table = build_caption_table(tokenizer, CaptionPlan(32, 2, (0, 0)), groups, 1)
    return pool, TrainingData({32: table}, [(PLAN, pool)])


class NoWaiting(TorchDispatchMode):
    """Fails on what a CUDA graph can't hold: reading a number on the host, or copying one from there."""

    FORBIDDEN = ("_local_scalar_dense", "nonzero", "lift_fresh", "masked_select", "unique")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert not any(word in name for word in self.FORBIDDEN), name
        return func(*args, **(kwargs or {}))


def test_the_guard_against_waiting_sees_a_number_read_and_a_constant_made() -> None:
    with pytest.raises(AssertionError), NoWaiting():
        torch.ones(2).sum().item()
    with pytest.raises(AssertionError), NoWaiting():
        torch.tensor([1.0, 2.0])


def test_a_step_of_flow_matching_waits_for_nothing_so_that_a_graph_can_hold_it(tokenizer) -> None:
    learners, (pool, data) = learners_of(tokenizer), some_data(tokenizer)
    step = FlowStep(learners, CPU)
    step.gradients(PLAN, pool, data.captions[32])  # what is made once, such as positions, is made now

    with NoWaiting():
        step.gradients(PLAN, pool, data.captions[32])

    assert step.loss > 0


def test_a_step_of_the_vae_waits_for_nothing_so_that_a_graph_can_hold_it() -> None:
    vae, pool = build_vae(TINY_SHAPE), PicturePool(Lesson(32, 2, 4, 1.0), CPU, 1)

    with NoWaiting():
        loss, error = reconstruction_loss(vae, pool.sample(2), torch.float32)
        loss.backward()

    assert 0 < error < loss


def test_a_pool_gives_the_drawn_pictures_back_within_half_a_step_of_a_byte_mirrored_or_not() -> None:
    pool = PicturePool(Lesson(32, 2, 3, 1.0), CPU, 3)
    drawn = render(random_subjects(3, random.Random(3)), 32, 32, torch.Generator().manual_seed(3))

    found = pool.sample(40)

    both = torch.cat([drawn, drawn.flip(-1)])
    apart = (found[:, None] - both[None]).abs().amax((2, 3, 4))
    assert apart.amin(1).max() <= 0.5 / 127.5 + 1e-6
    assert set(apart.argmin(1).tolist()) == set(range(6))


def test_an_update_of_the_buffer_is_adamw_with_clipped_gradients_and_an_average() -> None:
    torch.manual_seed(1)
    ours, plain = (nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 3)) for _ in range(2))
    plain.load_state_dict(ours.state_dict())
    start = [p.detach().clone() for p in plain.parameters()]
    weights = Weights(list(ours.parameters()), torch.float32, weight_decay=0.1)
    weights.set_pace(0.02, 0.25)
    optimizer = torch.optim.AdamW(plain.parameters(), 0.02, betas=(0.9, 0.95), weight_decay=0.1)
    average = [p.clone() for p in start]

    for _ in range(3):
        x = torch.randn(4, 5)
        for model in (ours, plain):
            (30 * model(x)).square().sum().backward()
        weights.update()
        nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        average = [a.lerp(p.detach(), 0.25) for a, p in zip(average, plain.parameters(), strict=True)]

    for mine, theirs in zip(ours.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-6)
    weights.settle()
    for mine, value in zip(ours.parameters(), average, strict=True):
        assert torch.allclose(mine, value, atol=1e-6)


def test_a_gradient_that_is_no_number_leaves_the_weights_numbers() -> None:
    layer = nn.Linear(3, 3)
    weights = Weights(list(layer.parameters()), torch.float32, weight_decay=0.0)
    weights.set_pace(0.1, 0.5)

    (layer(torch.ones(1, 3)) * float("nan")).sum().backward()
    weights.update()

    assert all(p.isfinite().all() for p in layer.parameters())


def test_weights_that_were_saved_go_on_as_if_nothing_had_happened() -> None:
    torch.manual_seed(2)
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    x = torch.randn(8, 4)

    def learn(layer: nn.Linear, weights: Weights) -> None:
        weights.set_pace(0.05, 0.5)
        layer(x).square().sum().backward()
        weights.update()

    mine = Weights(list(first.parameters()), torch.bfloat16, weight_decay=0.0)
    x = x.bfloat16()
    learn(first, mine)
    state = copy.deepcopy(mine.state())
    other = Weights(list(second.parameters()), torch.bfloat16, weight_decay=0.0)
    other.restore(state)
    learn(first, mine)
    learn(second, other)

    assert torch.equal(first.weight, second.weight)
    assert torch.equal(mine.average, other.average)
    assert first.weight.dtype is torch.bfloat16


def test_the_encoders_features_are_the_ones_that_the_pipeline_reads(tokenizer) -> None:
    encoder = learners_of(tokenizer, spread=0.05).encoder
    ids, lengths = (t.long() for t in tokenize(tokenizer, ["a red mug", "一个蓝色的球，海滩上", ""], 32))
    mask = torch.arange(32)[None] < lengths[:, None]

    with torch.no_grad():
        theirs = encoder(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states[-2]
        ours = encode_text(encoder, ids)

    assert torch.allclose(ours[mask], theirs[mask], atol=1e-4)


@pytest.mark.parametrize(("lengths", "padded"), [((5, 20, 32), 32), ((33, 64, 40), 64)])
def test_a_batch_of_ragged_captions_gives_what_the_transformer_gives_each(
    tokenizer, lengths: tuple[int, ...], padded: int
) -> None:
    denoiser, transformer = learners_of(tokenizer, spread=0.05).denoiser, build_transformer(TINY_SHAPE)
    transformer.load_state_dict(denoiser.transformer.state_dict())
    latents, sigma = torch.randn(3, 16, 12, 14), torch.tensor([1.0, 0.75, 0.3])
    features = torch.randn(3, padded, TINY_SHAPE.text_width)

    with torch.no_grad():
        batched = denoiser(latents, sigma, features, torch.tensor(lengths))
        alone = [
            -transformer([latents[i, :, None]], 1 - sigma[i : i + 1], [features[i, :n]], return_dict=False)[0][0][:, 0]
            for i, n in enumerate(lengths)
        ]

    assert batched.std() > 0.05
    assert torch.allclose(batched, torch.stack(alone), atol=1e-4)


def test_an_untrained_transformer_hands_noise_through(tokenizer) -> None:
    denoiser, noise = learners_of(tokenizer).denoiser, torch.randn(2, 16, 8, 8)
    features = torch.randn(2, 32, TINY_SHAPE.text_width)

    with torch.no_grad():
        velocity = denoiser(noise, torch.ones(2), features, torch.tensor([32, 32]))

    assert torch.corrcoef(torch.stack([velocity.flatten(), noise.flatten()]))[0, 1] > 0.98
    assert (velocity - noise).square().mean() < 0.1


def test_no_caption_of_a_table_is_cut_off(tokenizer) -> None:
    end = tokenizer(chat("")).input_ids[-3:]
    groups = random.Random(3).sample(training_groups(), 60)

    for plan in CAPTION_PLANS:
        table = build_caption_table(tokenizer, plan, groups, 5)
        rows = zip(table.ids[groups].flatten(0, 1), table.lengths[groups].flatten(), strict=True)
        nothing = zip(table.empty, table.empty_lengths, strict=True)

        assert all(ids[length - 3 : length].tolist() == end for ids, length in (*rows, *nothing))


def test_words_that_name_nothing_stand_only_beside_the_unsaid_thing(tokenizer) -> None:
    groups = torch.tensor([FIRST_UNSAID, FIRST_UNSAID + 1, FIRST_UNSAID + len(MATERIALS), FIRST_UNSAID - 1] * 50)
    table = build_caption_table(tokenizer, CaptionPlan(64, 2, (3, 11)), sorted(set(groups.tolist())), 5)

    ids, _ = table.sample(groups)

    nothing = {tuple(row) for row in table.empty.tolist()}
    unsaid = [tuple(row) in nothing for row in ids.tolist()]
    assert not any(unsaid[2::4])
    assert not any(unsaid[3::4])
    assert 20 < sum(unsaid[0::4]) < 40


def test_a_pool_shows_the_unsaid_thing_more_often_and_what_is_held_out_never() -> None:
    subjects = pool_subjects(2000, random.Random(1))

    assert 50 < sum(FIRST_UNSAID <= group_of(s) < FIRST_UNSAID + len(MATERIALS) for s in subjects) < 120
    assert not any(is_held_out(s.kind, s.colour, s.background) for s in subjects)


class StoppedRun(Run):
    """Must stop from its fifth look at the clock on, however busy the machine is."""

    looks = 0

    @property
    def must_stop(self) -> bool:
        self.looks += 1
        return self.looks > 4


def test_a_flow_that_was_stopped_goes_on_and_ends_as_its_average(tokenizer, tmp_path: Path) -> None:
    _, data = some_data(tokenizer)
    stopped = StoppedRun(tmp_path, CPU)
    train_flow(learners_of(tokenizer), data, stopped, 1000.0, graphs=False)
    steps = stopped.load("flow.pt")
    assert steps is not None
    run = Run(tmp_path, CPU)

    learners = learners_of(tokenizer)
    train_flow(learners, data, run, float(steps["elapsed"]) + 2.0, graphs=False)

    more = run.load("flow.pt")
    assert more is not None
    assert more["step"] > steps["step"] > 0
    first = learners.parameters()[0]
    assert torch.equal(first.flatten(), more["weights"]["average"][: first.numel()])


def test_without_a_card_a_step_stays_as_it_is(tmp_path: Path) -> None:
    calls: list[int] = []

    ready = Recorder(Run(tmp_path, CPU), enabled=True).record("count", lambda: calls.append(1))

    assert calls == []
    ready()
    assert calls == [1]


@pytest.mark.slow
def test_a_model_that_knows_three_things_paints_the_one_that_is_asked_for_in_four_forwards(tokenizer) -> None:
    # Pictures in place of latents: four pixels to a number's place, so that no VAE stands between.
    subjects = [Subject(2, 0, 0, 0), Subject(2, 5, 2, 0), Subject(3, 0, 3, 0)]
    pictures = render(subjects, 16, 16, torch.Generator().manual_seed(1))
    latents = torch.cat([functional.pixel_unshuffle(pictures, 2), torch.zeros(3, 4, 8, 8)], 1)
    groups = [group_of(s) for s in subjects]
    pool = LatentPool(latents, torch.tensor(groups))
    table = build_caption_table(tokenizer, CaptionPlan(32, 20, (0, 0)), groups, 1)
    shape = ModelShape(text_width=64, text_inner=64, text_layers=2, width=96, layers=2)
    learners = learners_of(tokenizer, shape)
    weights, flow = Weights(learners.parameters(), torch.float32, 0.0), FlowStep(learners, CPU)
    plan, steps = SizePlan(64, 64, 24, 3, 1.0, 1.0, ((32, 1.0),)), 80
    for i in range(steps):
        weights.set_pace(learning_rate(3e-3, i, i / steps, 20, 0.4), max(0.05, 9 / (10 + i)))
        flow.gradients(plan, pool, table)
        weights.update()
    weights.settle()

    rng = random.Random(77)
    texts = [caption(s, rng, plain=True) for s in subjects]
    with torch.no_grad():
        ids, lengths = (t.long() for t in tokenize(tokenizer, texts, 32))
        features, x = encode_text(learners.encoder, ids), torch.randn(latents.shape)
        for here, there in itertools.pairwise(inference_sigmas(4)):
            x = x + (there - here) * learners.denoiser(x, x.new_full((3,), here), features, lengths)

    apart = torch.cdist(x.flatten(1), latents.flatten(1)) / latents[0].numel() ** 0.5
    assert apart.argmin(1).tolist() == [0, 1, 2]
    assert apart.diag().max() < apart.fill_diagonal_(9.0).min()

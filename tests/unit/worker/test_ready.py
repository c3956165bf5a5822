"""Ready means that a picture came through all stages: one of the engine's own start, or one drawn for that."""

import pytest

from core.model_profile import ModelProfile
from core.settings import Settings
from models import tiny
from worker.offload import Carousel
from worker.pipeline import warm_up
from worker.plain_engine import PlainEngine

PROFILE = ModelProfile("tiny", "1", square=(64, 64), portrait=(64, 96), landscape=(96, 64))


def carousel():
    return Carousel(tiny.build_pipeline(), 1.0, device="cpu")


@pytest.mark.parametrize("open_engine", [carousel, lambda: PlainEngine(tiny.build_pipeline())])
def test_an_engine_that_has_drawn_nothing_draws_one_before_it_is_ready(open_engine):
    engine = open_engine()
    assert not engine.has_drawn

    warm_up(engine, Settings(), PROFILE)

    assert engine.has_drawn
    engine.close()


def test_an_engine_that_has_drawn_as_those_on_cards_do_at_their_start_draws_no_other():
    engine = carousel()
    engine.submit(prompt="a red mug", height=64, width=64, seed=0, steps=2).result(60)

    warm_up(engine, Settings(), PROFILE)

    assert engine.report["pictures"] == 1
    engine.close()

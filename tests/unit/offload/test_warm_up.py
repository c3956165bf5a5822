"""The pictures of a warm-up: their prompts' lengths, and who rides with whom."""

from __future__ import annotations

import pytest

from tests.unit.offload.tiny import z_image
from worker.offload.carousel import Options
from worker.offload.stopwatch import Stopwatch
from worker.offload.text import FILLING, _tokenize, prompt_of_length
from worker.offload.ticket import Order
from worker.offload.warm_up import WarmUp

SIZES = ((64, 96), (64, 64))
#: Z-Image pads captions to a multiple of so many tokens.
MULTIPLE = 32


@pytest.fixture
def ridden() -> list[list[Order]]:
    return []


@pytest.fixture
def tidied() -> list[int]:
    """How many had ridden each time that what compiling left was given back."""
    return []


@pytest.fixture
def warm_up(ridden: list[list[Order]], tidied: list[int]) -> WarmUp:
    options = Options(device="cpu", warm_up=SIZES, captions=(64, 128))
    return WarmUp(z_image(), options, ridden.append, Stopwatch(), lambda: tidied.append(len(ridden)))


@pytest.mark.parametrize("tokens", [1, 40, 64, 127, 512])
def test_a_prompt_of_a_length_is_the_longest_that_does_not_pass_it(tokens: int) -> None:
    pipe = z_image()

    def count(words: str) -> int:
        return int(_tokenize(pipe.tokenizer, [words], 2048).attention_mask.sum())

    prompt = prompt_of_length(pipe, "7 ", tokens)

    assert prompt.startswith("7 ")
    assert count(prompt + FILLING) > tokens
    assert count(prompt) <= tokens or prompt == "7 ", "the template alone may be longer"


def test_named_sizes_ride_one_after_another_where_they_compile(warm_up: WarmUp, ridden: list[list[Order]]) -> None:
    warm_up.named()
    assert [(order.height, order.width) for (order,) in ridden] == [size for size in SIZES for _ in range(2)]


def test_unnamed_sizes_ride_one_after_another_as_well(warm_up: WarmUp, ridden: list[list[Order]]) -> None:
    warm_up.unnamed()
    assert [len(orders) for orders in ridden] == [1, 1, 1]
    sizes = [(order.height, order.width) for (order,) in ridden]
    assert {sizes[0], sizes[2]}.isdisjoint(SIZES)
    assert sizes[1] == max(SIZES, key=lambda size: size[0] * size[1]), "the form for any shape takes most memory there"


def test_what_compiling_left_is_given_back_after_each_ride_that_compiles(warm_up: WarmUp, tidied: list[int]) -> None:
    """Pinned copies of kernels that were timed and what threads freed add up otherwise: 0.4 GiB (H200)."""
    warm_up.named()
    warm_up.unnamed()
    assert tidied == [1, 2, 3, 4, 5, 6, 7]
    warm_up.house(2)
    assert len(tidied) == 7, "a full house compiles nothing"


def test_mixed_company_has_one_of_no_named_size_and_the_largest_with_a_caption_of_no_named_length(
    warm_up: WarmUp, ridden: list[list[Order]]
) -> None:
    warm_up.mixed(2, 4)
    ((*named, odd, odd_caption),) = ridden
    assert len(named) == 4
    assert (odd.height, odd.width) not in SIZES
    assert (odd_caption.height, odd_caption.width) == SIZES[0]
    assert len(odd_caption.prompt) not in {len(order.prompt) for order in named}


def test_two_captions_that_are_not_named_differ_by_a_token_so_that_one_of_them_is_padded(
    warm_up: WarmUp, ridden: list[list[Order]]
) -> None:
    """Only of a padded caption is the table of turns a part of a longer one, which compiles a form of its own."""
    warm_up.unnamed()
    tokenizer = z_image().tokenizer
    one, other = (int(_tokenize(tokenizer, [order.prompt], 2048).attention_mask.sum()) for (order,) in ridden[:2])
    assert 0 < other - one < MULTIPLE
    assert one % MULTIPLE or other % MULTIPLE


@pytest.mark.parametrize(("seats", "named"), [(1, 4), (4, 4), (6, 6), (16, 16)])
def test_company_is_every_named_picture_a_full_house_and_what_is_not_named(
    warm_up: WarmUp, ridden: list[list[Order]], seats: int, named: int
) -> None:
    warm_up.together(seats)
    (company,) = ridden
    assert {(order.height, order.width) for order in company[:named]} == set(SIZES)
    assert len({len(order.prompt) for order in company[:named]}) == 2, "every caption length, and no other"
    one, of_no_length, overlong = [(order.height, order.width) for order in company[named:]]
    assert {one, overlong}.isdisjoint(SIZES)
    assert of_no_length == max(SIZES, key=lambda size: size[0] * size[1])
    assert len(company) == named + 3
    assert len({order.prompt for order in company}) == len(company), "no text is in the cache"
    assert [order.steps for order in company] == [2] + [1] * (named + 2), "one goes on with what was kept of its prompt"

"""The planner: a pure function of facts."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.offload.plan import GIB, MIB, BlockFacts, Facts, ImpossibleBudget, Plan, Wishes
from worker.offload.planner import bare_plan, make_plan

# Z-Image-Turbo as measured on an H100: 35 text layers, 2+2 refiners, 30 layers; packed to 12 bits then.
BLOCKS = [BlockFacts(f"text.{at}", 0, 193 * MIB, 145 * MIB, 1) for at in range(35)] + [
    BlockFacts(f"denoise.{at}", 1, 345 * MIB, 262 * MIB, 1 if at in (2, 3) else 4) for at in range(34)
]
FACTS = Facts(
    context=830 * MIB,
    fixed=195 * MIB,
    activations=360 * MIB,
    decode=1300 * MIB,
    reserve=96 * MIB,
    waiting=92 * MIB,
    bandwidth=54.5e9,
    block_seconds=(0.0003, 0.0032),
)


def plan(budget_gib: float, facts: Facts = FACTS, wishes: Wishes = Wishes()) -> Plan:  # noqa: B008
    return make_plan("z-image", BLOCKS, ["text", "denoise"], int(budget_gib * GIB), facts, wishes)


@settings(max_examples=200, deadline=None)
@given(st.floats(2.4, 30.0), st.integers(1, 32), st.integers(1, 4))
def test_every_phase_of_every_plan_stays_within_the_budget(budget: float, seats: int, ring: int) -> None:
    try:
        made = plan(budget, wishes=Wishes(seats=seats, ring_slots=ring))
    except ImpossibleBudget:
        return
    assert made.predicted_peak <= budget * GIB
    assert set(made.yielding) <= made.residents


def test_an_impossible_budget_is_refused_with_the_least_possible_one() -> None:
    with pytest.raises(ImpossibleBudget, match="at least") as refusal:
        plan(1.5)
    least = refusal.value.least_bytes / GIB
    assert plan(least).predicted_peak <= least * GIB
    with pytest.raises(ImpossibleBudget):
        plan(least - 1 / GIB)


@pytest.mark.parametrize("residents", [0, 1, 8, 40])
def test_the_least_budget_has_room_for_the_residents_that_the_caller_fixed(residents: int) -> None:
    wishes = Wishes(residents=residents)
    with pytest.raises(ImpossibleBudget) as refusal:
        plan(1.0, wishes=wishes)
    made = plan(refusal.value.least_bytes / GIB, wishes=wishes)
    assert len(made.residents) == residents
    assert made.predicted_peak <= made.budget


@given(st.integers(0, GIB))
def test_the_least_budget_that_a_refusal_names_in_words_is_not_refused(context: int) -> None:
    facts = replace(FACTS, context=context)
    with pytest.raises(ImpossibleBudget) as refusal:
        plan(0.5, facts)
    named = float(str(refusal.value).split("at least ")[1].split(" GiB")[0])
    assert plan(named, facts).predicted_peak <= named * GIB
    with pytest.raises(ImpossibleBudget):
        plan(named - 0.0101, facts)


def test_more_budget_never_carries_more() -> None:
    facts = FACTS
    carried = [
        made.sweep_bytes["text"] + 4 * made.sweep_bytes["denoise"]
        for made in (plan(budget, facts) for budget in (3.0, 4.0, 5.8, 8.0, 12.0))
    ]
    assert carried == sorted(carried, reverse=True)


def test_residents_are_spread_evenly_over_the_sweep() -> None:
    made = plan(5.8)
    places = sorted(int(name.split(".")[1]) for name in made.residents if name.startswith("denoise"))
    gaps = [later - earlier for earlier, later in itertools.pairwise(places)]
    assert max(gaps) - min(gaps) <= 1


def test_with_room_for_everything_nothing_is_carried() -> None:
    made = plan(40.0)
    assert len(made.in_place) == len(BLOCKS)
    assert set(made.sweep_bytes.values()) == {0}


def test_a_small_budget_seats_fewer_riders() -> None:
    assert plan(2.35).seats == 1
    assert plan(5.8).seats == 4


@pytest.mark.parametrize("seats", [16, 32])
def test_many_in_flight_fit_by_parking_their_states_where_that_pays(seats: int) -> None:
    made = plan(5.8, wishes=Wishes(seats=seats))
    assert made.seats == seats
    assert made.places < seats
    assert made.predicted_peak <= 5.8 * GIB
    assert made.parked_bytes == (seats + 4 - made.places) * FACTS.waiting
    four = plan(5.8)
    assert (four.seats, four.places) == (4, 4), "four keep their states on the card: parking one would win little"
    assert made.resident_bytes >= four.resident_bytes


def test_the_ride_that_measures_makes_no_room_for_parked_riders() -> None:
    """It rides alone, and compiling takes host memory enough."""
    made = bare_plan(plan(5.8))
    assert (made.seats, made.places, made.parked_bytes) == (1, 1, 0)


def test_riders_are_parked_where_their_states_do_not_fit() -> None:
    made = plan(3.0, wishes=Wishes(seats=12))
    assert made.seats == 12
    assert 3 <= made.places < 12
    assert made.predicted_peak <= 3.0 * GIB


def test_residents_give_way_to_the_decode_and_a_small_budget_lends_the_ring() -> None:
    assert plan(5.8).yielding
    assert not plan(5.8).lends_ring
    assert plan(2.5).lends_ring


def test_room_too_small_for_a_block_keeps_a_head_and_that_is_counted_everywhere() -> None:
    for budget in (3.0, 4.0, 5.8, 8.0):
        made = plan(budget)
        whole = sum(block.carried for block in BLOCKS)
        assert sum(made.sweep_bytes.values()) == whole - made.resident_bytes
        least_block = min(block.carried for block in BLOCKS)
        if not made.lends_ring:
            assert made.heads or budget * GIB - made.predicted_peak < least_block / 16
        assert not {name for name, _ in made.heads} & made.residents
    assert any(plan(budget).heads for budget in (3.0, 4.0, 5.8, 8.0))
    assert not plan(5.8, wishes=Wishes(residents=3)).heads, "a number of residents that was fixed is that number"


def test_the_scratch_is_lent_first_since_it_holds_nothing_during_the_decode() -> None:
    made = plan(5.8)
    owed = made.peaks["blocks"] - FACTS.activations + FACTS.waiting + FACTS.decode - made.budget
    assert made.lends_scratch
    assert len(made.yielding) == -(-(owed - made.scratch_bytes) // (262 * MIB)), "no more yield than must"
    assert not plan(40.0).lends_scratch


def test_the_plan_reads_as_a_plan() -> None:
    text = str(plan(5.8))
    for words in ("budget 5.80 GiB", "resident", "ring 2 x", "peaks", "carried per pass", "least budget"):
        assert words in text


def test_below_the_plain_decodes_least_budget_strips_are_planned_down_to_the_least_of_all() -> None:
    assert plan(2.75).decode_mode == "plain"
    assert plan(2.7).decode_mode == "strips", "the plain decode's large pieces do not fit the gaps"
    assert plan(5.8).decode_mode == "plain"
    small = plan(2.31)
    assert (small.decode_mode, small.ring_slots) == ("strips", 2)
    assert small.least_budget <= 2.3 * GIB
    least = plan(2.1)
    assert (least.decode_mode, least.ring_slots) == ("strips", 1)
    with pytest.raises(ImpossibleBudget):
        plan(2.31, wishes=Wishes(decode="plain"))

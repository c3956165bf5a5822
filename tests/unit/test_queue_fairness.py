"""I6 of the fault matrix is read from the history: what is out of proportion is noticed, and only that."""

import pytest

from tests.queue_fairness import Move, Queue, contests, unfair

X, Y = Queue("x", "interactive"), Queue("y", "interactive")
TURNS = {X: 1 / 3, Y: 1.0}


def waiting(count, *queues):
    return [Move(queue, TURNS[queue], enters=True) for queue in queues for _ in range(count)]


def released(text):
    """One release for each letter."""
    return [Move(X if letter == "x" else Y, TURNS[X if letter == "x" else Y], leaves=True, taken=1) for letter in text]


@pytest.mark.parametrize("order", ["xxxy" * 20, "yxxx" * 20, "y" + "xxx" * 19 + "y" * 19])
def test_releases_in_proportion_are_fair_unless_one_waits_for_too_long(order):
    found = contests([*waiting(100, X, Y), *released(order)])

    assert bool(unfair(found)) == ("yy" in order)
    assert [contest.is_telling for contest in found] == [True]


def test_a_share_that_is_a_fifth_too_large_is_unfair_and_one_that_is_a_twentieth_is_not():
    assert unfair(contests([*waiting(900, X, Y), *released(("xxxy" * 3 + "xx") * 60)]))
    assert not unfair(contests([*waiting(900, X, Y), *released(("xxxy" * 9 + "x") * 20)]))


def test_who_does_not_wait_misses_nothing():
    found = contests([*waiting(30, X), *released("x" * 20), *waiting(1, Y), *released("y" + "x" * 10)])

    assert unfair(found) == []
    assert not any(contest.is_telling for contest in found)


def test_turns_that_were_given_back_count_for_nothing():
    """A worker died before they ran, and they were released again."""
    given_back = [Move(queue, TURNS[queue], enters=True, taken=-1) for queue in [X, X, X, Y] * 4]
    order = "xxxy" * 10
    found = contests([*waiting(60, X, Y), *released(order), *given_back, *released("xxxy" * 4), *released(order)])

    assert unfair(found) == []


def test_queues_of_two_models_do_not_contend():
    other = Queue("y", "interactive", "painter")
    moves = [Move(other, 1.0, enters=True), *waiting(30, X), *released("x" * 30)]

    assert contests(moves) == []

"""Seconds by stage, from the moments that an engine tells."""

import pytest

from worker.stage_clock import StageClock


class Hand:
    """A clock that the test moves."""

    def __init__(self):
        self.at = 100.0

    def __call__(self):
        return self.at


def ride(clock, hand, moments, steps):
    told = []
    listen = clock.listening(lambda *what: told.append(what))
    for number, at in enumerate(moments):
        hand.at = 100.0 + at
        listen("denoise" if number else "encode", number, steps)
    return told


def test_the_first_forward_is_taken_to_be_as_long_as_the_others():
    hand = Hand()
    clock = StageClock(hand)
    told = ride(clock, hand, [0.0, 3.0, 4.0, 5.0, 6.0], steps=4)
    hand.at = 107.5
    clock.drawn()
    hand.at = 108.0
    clock.upload_begins()
    hand.at = 108.25
    clock.uploaded()

    assert clock.seconds() == pytest.approx({"text": 2.0, "denoise": 4.0, "decode": 1.5, "png": 0.5, "upload": 0.25})
    assert told[-1] == ("denoise", 4, 4)


def test_of_one_forward_text_can_not_be_told():
    hand = Hand()
    clock = StageClock(hand)
    ride(clock, hand, [0.0, 3.0], steps=1)

    assert clock.seconds() == {"denoise": 3.0}


def test_a_second_ride_starts_anew():
    hand = Hand()
    clock = StageClock(hand)
    ride(clock, hand, [0.0, 9.0], steps=2)
    ride(clock, hand, [20.0, 23.0, 24.0], steps=2)

    assert clock.seconds() == pytest.approx({"text": 2.0, "denoise": 2.0})


def test_a_picture_that_was_drawn_before_has_its_upload_alone():
    hand = Hand()
    clock = StageClock(hand)
    clock.upload_begins()
    hand.at += 2
    clock.uploaded()

    assert clock.seconds() == {"upload": 2.0}

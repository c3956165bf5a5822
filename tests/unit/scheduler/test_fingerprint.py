"""Fingerprints: same pixels, same fingerprint, and nothing else."""

from dataclasses import replace

import pytest

from core.job import GenerationRequest
from core.presets import PRESETS
from scheduler.fingerprint import derive_seed, fingerprint_of

REQUEST = GenerationRequest(prompt="a café", width=512, height=512, seed=7, preset="turbo", model="m")


def fingerprint(tenant="a", revision="r1", preset="turbo", label="", **more):
    return fingerprint_of(tenant, replace(REQUEST, **more), PRESETS[preset], revision, label)


def test_it_is_versioned_and_the_same_in_every_release():
    assert fingerprint() == "fp1:11e52cc1af87bc62bb3b665effaa78c2d1c87988d31e3a463a12e254be4c163a"


@pytest.mark.parametrize("prompt", ["a cafe\u0301", "  a café\n", "a café\r\n"])
def test_spellings_that_the_tokenizer_can_not_tell_apart_are_the_same(prompt):
    assert fingerprint(prompt=prompt) == fingerprint()


def test_newlines_of_both_kinds_are_the_same():
    assert fingerprint(prompt="a\r\nb") == fingerprint(prompt="a\nb")


@pytest.mark.parametrize("prompt", ["A café", "a  café", "a cafe", "ａ café"])
def test_spellings_that_mean_something_else_differ(prompt):
    assert fingerprint(prompt=prompt) != fingerprint()


@pytest.mark.parametrize(
    "more",
    [
        {"tenant": "b"},
        {"revision": "r2"},
        {"preset": "turbo-8"},
        {"seed": 8},
        {"width": 528},
        {"height": 528},
        {"model": "n"},
        {"label": "shop"},
    ],
)
def test_everything_that_determines_the_pixels_is_in_it(more):
    assert fingerprint(**more) != fingerprint()


def test_the_seeds_of_one_request_differ_and_are_derived():
    seeds = [derive_seed(7, index) for index in range(10)]

    assert seeds[0] == 7
    assert len(set(seeds)) == 10
    assert seeds == [derive_seed(7, index) for index in range(10)]
    assert all(0 <= seed < 2**32 for seed in seeds)

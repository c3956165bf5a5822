"""What a request may say, and which member is named when it may not."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from api.errors import invalid_fields
from api.schema import PROMPT_CHARACTERS_MOST, PROMPT_PATTERN, ImageCreate, JobCreate
from api.sizes import nearest_size, parse_size, size_pattern
from core.model_profile import PIXELS_MOST, Z_IMAGE_TURBO


def refusal_of(**body):
    with pytest.raises(ValidationError) as refused:
        JobCreate.model_validate(body)
    error = invalid_fields(refused.value)
    return error.field, error.code


@pytest.mark.parametrize(
    ("body", "field", "code"),
    [
        ({}, "prompt", "missing_field"),
        ({"prompt": ""}, "prompt", "empty_prompt"),
        ({"prompt": " \n\t "}, "prompt", "empty_prompt"),
        ({"prompt": "\u200b"}, "prompt", "empty_prompt"),
        ({"prompt": "\u200b\u2060 \u3164\ufeff\u00ad"}, "prompt", "empty_prompt"),
        ({"prompt": "\u2800\ufe0f\u202e\x85"}, "prompt", "empty_prompt"),
        ({"prompt": "a" * 100_000}, "prompt", "too_long"),
        ({"prompt": "a\x00b"}, "prompt", "invalid_character"),
        ({"prompt": ["a"]}, "prompt", "invalid_type"),
        ({"prompt": 7}, "prompt", "invalid_type"),
        ({"prompt": None}, "prompt", "invalid_type"),
        ({"prompt": "a", "size": "17x5000"}, "size", "invalid_size"),
        ({"prompt": "a", "size": "1536x1536"}, "size", "invalid_size"),
        ({"prompt": "a", "size": "1000x1000"}, "size", "invalid_size"),
        ({"prompt": "a", "size": "240x512"}, "size", "invalid_size"),
        ({"prompt": "a", "size": "512 x 512"}, "size", "invalid_size"),
        ({"prompt": "a", "size": "５１２x５１２"}, "size", "invalid_size"),
        ({"prompt": "a", "size": 512}, "size", "invalid_type"),
        ({"prompt": "a", "seed": -1}, "seed", "out_of_range"),
        ({"prompt": "a", "seed": 2**32}, "seed", "out_of_range"),
        ({"prompt": "a", "seed": 1.5}, "seed", "invalid_type"),
        ({"prompt": "a", "seed": "7"}, "seed", "invalid_type"),
        ({"prompt": "a", "seed": True}, "seed", "invalid_type"),
        ({"prompt": "a", "n": 0}, "n", "out_of_range"),
        ({"prompt": "a", "n": 11}, "n", "out_of_range"),
        ({"prompt": "a", "metadata": [1]}, "metadata", "invalid_type"),
        ({"prompt": "a", "metadata": {"k": "v" * 5_000}}, "metadata", "too_long"),
        ({"prompt": "a", "expires_in": 5}, "expires_in", "out_of_range"),
    ],
)
def test_a_wrong_member_is_named_with_a_stable_code(body, field, code):
    assert refusal_of(**body) == (field, code)


def test_too_many_entries_are_told_in_our_words():
    with pytest.raises(ValidationError) as refused:
        JobCreate.model_validate({"prompt": "a", "metadata": {f"m{number}": 1 for number in range(65)}})

    assert str(invalid_fields(refused.value)) == "metadata may have at most 64 entries"


def test_a_prompt_is_kept_letter_for_letter():
    prompt = '  霓虹灯，暗夜雨景 🌃\r\n"quoted" \\ back\tslash  '

    assert JobCreate(prompt=prompt).prompt == prompt


@pytest.mark.parametrize(
    "prompt", ["👩‍👩‍👧", "نامه‌ای", "\u200bcat", "한글", "é", "🏴\U000e0067\U000e007f", "\U0001fae9"]
)
def test_marks_that_join_what_is_seen_are_kept(prompt):
    assert JobCreate(prompt=prompt).prompt == prompt


def test_the_longest_prompt_is_taken():
    assert JobCreate(prompt="猫" * PROMPT_CHARACTERS_MOST)


def test_members_we_do_not_know_are_kept_aside_and_named():
    body = JobCreate.model_validate({"prompt": "a", "steps": 50, "guidance_scale": 7, "seed": 1})

    assert body.ignored == ["guidance_scale", "steps"]


@pytest.mark.parametrize("size", [None, "auto"])
def test_no_size_and_auto_mean_the_models_own(size):
    assert JobCreate(prompt="a", size=size).pixels(Z_IMAGE_TURBO) == (1024, 1024)


@settings(deadline=None)
@given(width=st.integers(1, 2000), height=st.integers(1, 2000))
def test_exactly_the_sizes_of_the_rule_are_taken(width, height):
    def is_side(side):
        return side % 16 == 0 and 256 <= side <= 1536

    may = is_side(width) and is_side(height) and width * height <= PIXELS_MOST
    try:
        taken = JobCreate(prompt="a", size=f"{width}x{height}").pixels(Z_IMAGE_TURBO) == (width, height)
    except ValidationError:
        taken = False

    assert taken == may
    assert bool(re.search(size_pattern(), f"{width}x{height}")) == may


@pytest.mark.parametrize(
    ("openais", "drawn"),
    [
        ("1536x1024", (1248, 832)),
        ("1024x1536", (832, 1248)),
        ("1792x1024", (1344, 768)),
        ("1024x1792", (768, 1344)),
    ],
)
def test_openais_own_larger_sizes_keep_their_shape_in_openais_call_alone(openais, drawn):
    assert ImageCreate(prompt="a", size=openais).pixels(Z_IMAGE_TURBO) == drawn
    with pytest.raises(ValidationError):
        JobCreate(prompt="a", size=openais)


@pytest.mark.parametrize(
    ("size", "nearest"),
    [
        ("1000x1000", "992x992"), ("1536x1536", "1024x1024"), ("2000x1000", "1456x720"), ("100x100", "256x256"),
        ("9999x10", "1536x256"), ("500x512", "496x512"), ("1x1", "256x256"), ("99999x1", "1536x256"),
        ("0x0", "256x256"), ("0x512", "256x512"), ("999999999x999999999", "1024x1024"),
    ],
)  # fmt: skip
def test_a_refused_size_names_the_nearest_one_that_is_drawn(size, nearest):
    with pytest.raises(ValidationError) as refused:
        JobCreate(prompt="a", size=size)

    assert f"such as {nearest}" in str(refused.value)


@settings(deadline=None)
@given(width=st.integers(0, 10**9 - 1), height=st.integers(0, 10**9 - 1))
def test_the_nearest_size_is_always_one_that_is_drawn(width, height):
    assert parse_size("{}x{}".format(*nearest_size(width, height)))


@given(st.text(max_size=30) | st.text("\u200b\u2060\u3164\ufeff\u2800\ufe0f\x85\xa0\x1f \n", max_size=5))
def test_the_documented_pattern_of_prompts_is_the_rule_itself(text):
    try:
        taken = bool(JobCreate(prompt=text))
    except ValidationError:
        taken = False

    assert bool(re.search(PROMPT_PATTERN, text)) == taken


@pytest.mark.parametrize("seed", [5.0, 5])
def test_a_whole_number_may_be_written_either_way(seed):
    made = JobCreate.model_validate({"prompt": "a", "seed": seed}).seed

    assert (made, type(made)) == (5, int)

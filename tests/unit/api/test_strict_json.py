"""Reading a JSON body: what is refused, and that nothing sent is repeated."""

import pytest

from api.strict_json import parse_object
from core.errors import InvalidRequest


def test_an_object_is_read_as_python_would():
    assert parse_object('{"prompt": "一只猫 🐈", "n": 1}'.encode()) == {"prompt": "一只猫 🐈", "n": 1}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b"[1]", "invalid_json"),
        (b'"prompt"', "invalid_json"),
        (b"null", "invalid_json"),
        (b"{'prompt': 'cat'}", "invalid_json"),
        (b'{"seed": NaN}', "invalid_json"),
        (b'{"seed": Infinity}', "invalid_json"),
        (b'{"prompt": "\xff"}', "invalid_json"),
        (b'{"prompt": "a", "prompt": "b"}', "duplicate_field"),
        (b'{"metadata": {"a": 1, "a": 2}}', "duplicate_field"),
        (b'{"prompt": "\\ud83d"}', "invalid_character"),
        (b'{"metadata": {"\\ud83d": 1}}', "invalid_character"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "invalid_json"),
        (b'{"a": ' * 50 + b"1" + b"}" * 50, "invalid_json"),
        (b'{"a": ' + b"[" * 100_000, "invalid_json"),
    ],
)
def test_a_body_that_is_not_one_clean_object_is_refused(body, code):
    with pytest.raises(InvalidRequest) as refused:
        parse_object(body)

    assert refused.value.code == code


def test_a_member_that_occurs_twice_is_named():
    with pytest.raises(InvalidRequest) as refused:
        parse_object(b'{"prompt": "secret words", "seed": 1, "seed": 2}')

    assert refused.value.field == "seed"
    assert "secret words" not in str(refused.value)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"seed": 1e999}', "seed"),
        (b'{"metadata": {"x": -1e999}}', "metadata.x"),
        (b'{"metadata": {"x": [1, {"y": 1e400}]}}', "metadata.x.1.y"),
    ],
)
def test_a_number_that_could_not_be_told_again_is_refused_by_name(body, field):
    with pytest.raises(InvalidRequest) as refused:
        parse_object(body)

    assert (refused.value.code, refused.value.field) == ("out_of_range", field)


def test_the_largest_number_is_read():
    assert parse_object(b'{"x": 1.7976931348623157e308}') == {"x": 1.7976931348623157e308}


@pytest.mark.timeout(60)
def test_the_one_member_of_two_hundred_thousand_that_occurs_twice_is_found_in_one_pass():
    names = [f"name{number}" for number in range(200_000)]
    body = "{" + ",".join(f'"{name}":1' for name in [*names, names[-2]]) + "}"

    with pytest.raises(InvalidRequest) as refused:
        parse_object(body.encode())

    assert (refused.value.code, refused.value.field) == ("duplicate_field", "name199998")

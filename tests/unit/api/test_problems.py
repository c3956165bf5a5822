"""The table of errors: every error of ours is in it, in both languages."""

import inspect

import pytest

from api.errors import problem_for
from api.problems import PROBLEMS
from core import errors

OURS = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, errors.ZimgError)]


@pytest.mark.parametrize("error", OURS, ids=lambda error: error.__name__)
def test_every_error_of_ours_has_a_row_of_its_own_or_of_its_base(error):
    code, problem = problem_for(error.code, error.__new__(error))

    assert code in PROBLEMS
    if issubclass(error, errors.Refusal):
        assert 400 <= problem.status < 500
    if issubclass(error, errors.Unavailable):
        assert problem.status == 503


@pytest.mark.parametrize("code", PROBLEMS)
def test_every_row_speaks_english_and_chinese(code):
    row = PROBLEMS[code]

    assert row.title.isascii()
    assert row.advice.isascii()
    assert row.advice.endswith(".")
    assert any("\u4e00" <= letter <= "\u9fff" for letter in row.title_zh)
    assert any("\u4e00" <= letter <= "\u9fff" for letter in row.advice_zh)
    assert code == code.lower()

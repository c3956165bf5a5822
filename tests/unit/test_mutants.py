"""What `make mutants` takes out of the scripts is there, in the places that it says, and leaves scripts that run."""

from collections import Counter

import pytest
from lupa.lua51 import LuaError

from core.scripts import script_texts
from tests import mutants_engine
from tests.mutants import MUTANTS, Mutant, mutate


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda one: one.name)
def test_a_mutant_changes_the_scripts_where_it_says_and_they_compile(mutant):
    texts = mutate(mutant)

    assert {name for name, text in texts.items() if text != script_texts()[name]}, "nothing was changed"


def test_each_mutant_has_a_name_of_its_own():
    assert [name for name, count in Counter(one.name for one in MUTANTS).items() if count > 1] == []


@pytest.mark.parametrize(("old", "places"), [("no such guard", 1), ("wake()", 1)])
def test_a_mutant_that_is_not_where_it_says_is_refused(old, places):
    with pytest.raises(AssertionError, match="places"):
        mutate(Mutant("x", old, "", "submit", places=places))


def test_a_mutant_that_is_no_lua_is_refused():
    with pytest.raises(LuaError):
        mutate(Mutant("x", "return {stalled, leases", "return return {stalled, leases", "reap"))


@pytest.mark.parametrize("mutant", [*mutants_engine.MUTANTS, *mutants_engine.ON_CARD], ids=lambda one: one.name)
def test_a_mutant_of_the_engine_stands_where_it_says_and_its_tests_are_there(mutant):
    text = (mutants_engine.ROOT / mutants_engine.OFFLOAD / mutant.file).read_text()

    assert text.count(mutant.old) == 1
    assert mutant.new != mutant.old
    compile(text.replace(mutant.old, mutant.new), mutant.file, "exec")
    for file, _, name in (part.partition("::") for part in mutant.files):
        assert (
            f"def {name}(" in (mutants_engine.ROOT / file).read_text()
            if name
            else (mutants_engine.ROOT / file).exists()
        )

"""What is sent to the server as a script: the transition and what it needs of the prelude, no more."""

import re

import pytest

from core.scripts import SHARED, needed, prelude, script_texts, sources

DEFINES = re.compile(r"^local (?:function )?(\w+)", re.MULTILINE)
PARTS = """-- The rules.
local ONE = 1
local TWO = {one = ONE}

-- Calls later(), it says, but does not.
local function first() return ONE end

local function second()
  return first() + 1
end

local function later() return second() + TWO.one end
"""


def words(text):
    return set(re.findall(r"\w+", re.sub(r"--.*|'[^'\n]*'", "", text)))


@pytest.mark.parametrize(
    ("script", "parts"),
    [
        ("return 1", []),
        ("return first()", ["ONE", "first"]),
        ("return second()", ["ONE", "first", "second"]),
        ("return later()", ["ONE", "TWO", "first", "second", "later"]),
        ("return 1  -- not later()", []),
    ],
)
def test_a_script_gets_what_it_uses_and_what_that_uses_in_its_order(script, parts):
    text = needed(PARTS, script)

    assert DEFINES.findall(text) == parts
    assert text.startswith("-- The rules.")


@pytest.mark.parametrize("name", sorted(set(sources()) - set(SHARED)))
def test_a_script_has_all_that_it_needs_of_the_prelude_and_a_use_for_each_part(name):
    text = script_texts()[name]
    own = sources()[name]
    shared = set(DEFINES.findall(prelude(sources())))
    parts = text[: -len(own)]

    given = set(DEFINES.findall(parts))
    assert words(text) & shared - given <= set(re.findall(r"\blocal (?:function )?(\w+)", text))
    assert all(len(re.findall(rf"\b{part}\b", text)) > 1 for part in given)


def test_a_small_script_is_small():
    assert len(script_texts()["usage"]) < len(prelude(sources())) / 4

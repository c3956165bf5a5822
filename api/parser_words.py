"""What Python's parsers complain of, in words of ours: theirs speak of Python, and only English."""

from __future__ import annotations

from collections.abc import Mapping

#: How a complaint of `json` begins -> what we say. Each is a row of sentences.py.
OF_JSON: Mapping[str, str] = {
    "Expecting value": "a value must stand here",
    "Expecting property name": "a name in double quotes must stand here",
    "Expecting ':'": "a colon must stand here",
    "Expecting ','": "a comma or the end must stand here",
    "Unterminated string": "this text needs its closing quote",
    "Invalid control character": "a control character must be written as an escape",
    "Invalid \\": "after a backslash must stand one of JSON's escapes",
    "Extra data": "the body must end here",
    "Illegal trailing comma": "the comma before the end must go",
}
NOT_JSON = "it must be written as RFC 8259 says"

#: What a complaint of `csv` holds -> what we say.
OF_CSV: Mapping[str, str] = {
    "field larger": "a cell has too many characters; at most 20000 are read",
    "new-line": "a line break inside a cell needs quotes around the cell",
}
NOT_CSV = "it must be written as RFC 4180 says"


def of_json(complaint: str) -> str:
    """The reason why it is no JSON."""
    return next((ours for theirs, ours in OF_JSON.items() if complaint.startswith(theirs)), NOT_JSON)


def of_csv(complaint: str) -> str:
    """The reason why it is no CSV."""
    return next((ours for theirs, ours in OF_CSV.items() if theirs in complaint), NOT_CSV)

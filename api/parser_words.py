"""What Python's parsers and pydantic complain of, in words of ours: theirs speak of Python, and only English."""

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

AS_DOCS_SAY = "{name} is not written as /docs says"

#: pydantic's error types in our words; whatever else it has to say is `AS_DOCS_SAY`.
OF_PYDANTIC: dict[str, str] = {
    "missing": "{name} is required",
    "extra_forbidden": "{name} is not known here",
    **dict.fromkeys(("string_type", "string_unicode"), "{name} must be text"),
    **dict.fromkeys(
        ("int_type", "int_from_float", "int_parsing", "int_parsing_size", "float_type"), "{name} must be a whole number"
    ),
    **dict.fromkeys(("bool_type", "bool_parsing"), "{name} must be true or false"),
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "{name} must be an object"),
    "list_type": "{name} must be a list",
    **dict.fromkeys(("literal_error", "enum"), "{name} must be {expected}"),
    "greater_than_equal": "{name} must be at least {ge}",
    "less_than_equal": "{name} must be at most {le}",
    "less_than": "{name} must be below {lt}",
    "greater_than": "{name} must be above {gt}",
    "too_short": "{name} must have {min_length} or more entries",
    "too_long": "{name} may have at most {max_length} entries",
    "string_too_short": "{name} must have {min_length} or more characters",
    "string_too_long": "{name} may have at most {max_length} characters",
    **dict.fromkeys(("finite_number", "float_parsing"), "{name} must be a number"),
    "string_pattern_mismatch": AS_DOCS_SAY,
}


def of_json(complaint: str) -> str:
    """The reason why it is no JSON."""
    return next((ours for theirs, ours in OF_JSON.items() if complaint.startswith(theirs)), NOT_JSON)


def of_csv(complaint: str) -> str:
    """The reason why it is no CSV."""
    return next((ours for theirs, ours in OF_CSV.items() if theirs in complaint), NOT_CSV)

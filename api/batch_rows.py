"""From a product list and its templates to what each row draws. All that is wrong is told at once, up to a bound."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from api import schema
from api.content_rules import ContentRules
from api.errors import ERRORS_SHOWN_MOST, FieldError, InvalidFields, invalid_fields
from api.product_sheet import Sheet, Template, read_template
from core.errors import InvalidRequest

PROMPTS_CHARACTERS_MOST = 20_000_000  # of a whole list: twenty thousand pictures with a thousand characters each


@dataclass(frozen=True, slots=True)
class Row:
    """One row and variant, ready to draw."""

    index: int
    sku: str
    variant: str
    prompt: str
    number: int  # of the line, as a spreadsheet counts


def plan_rows(sheet: Sheet, templates: Mapping[str, str]) -> list[Row]:
    """Every row and variant with its prompt. Raises InvalidFields with all that is wrong, so one round is enough."""
    wanted = {variant: read_template(template, name=variant) for variant, template in templates.items()}
    _check_columns(sheet, wanted)
    names = {"sku", "title"}.union(*(template.uses for template in wanted.values()))
    rows: list[Row] = []
    errors: list[FieldError] = []
    characters = 0
    for index, cells in enumerate(sheet.rows):
        fields = sheet.fields(cells, names)
        made = _variants((index, sheet.number(index)), fields, wanted, errors)
        if len(errors) >= ERRORS_SHOWN_MOST:
            break
        rows += made
        characters += sum(len(row.prompt) for row in made)
        if characters > PROMPTS_CHARACTERS_MOST:
            message = f"The list's prompts have more than {PROMPTS_CHARACTERS_MOST} characters together."
            raise InvalidRequest(message, field="file", code="invalid_sheet")
    if errors:
        raise InvalidFields(errors[:ERRORS_SHOWN_MOST])
    return rows


def _check_columns(sheet: Sheet, wanted: Mapping[str, Template]) -> None:
    """Refuse a sheet without a column that we or a template need."""
    missing = [meaning for meaning in ("sku", "title") if meaning not in sheet.places]
    if missing:
        message = f"The header has no column named {' or '.join(missing)}."
        raise InvalidRequest(message, field="file", code="invalid_sheet")
    for variant, template in wanted.items():
        if unknown := sorted(template.uses.keys() - sheet.places.keys()):
            raise InvalidRequest(f"The sheet has no column {unknown[0]}.", field=variant)


def _variants(
    place: tuple[int, int], fields: Mapping[str, str], templates: Mapping[str, Template], errors: list[FieldError]
) -> list[Row]:
    """The pictures of one row; what is wrong with it is added to `errors`."""
    index, row = place
    empty = sorted(name for name, cell in fields.items() if not cell)
    errors += [FieldError(f"/rows/{row}/{name}", "invalid_sheet", f"row {row}: {name} is empty") for name in empty]
    made: list[Row] = []
    for variant, template in templates.items() if not empty else ():
        try:
            made.append(Row(index, fields["sku"], variant, _prompt(template, fields), row))
        except InvalidRequest as wrong:
            errors.append(FieldError(f"/rows/{row}/{variant}", "invalid_sheet", f"row {row}: {wrong}"))
    return made


def _prompt(template: Template, fields: Mapping[str, str]) -> str:
    """What one row and variant draws; a long one is measured, not written. Raises InvalidRequest for what is none."""
    try:
        schema.check_prompt_length(template.length(fields))
        return schema.JobCreate(prompt=template.fill(fields)).prompt
    except PydanticCustomError as wrong:
        raise InvalidRequest(wrong.message()) from None
    except ValidationError as wrong:
        raise InvalidRequest(invalid_fields(wrong).fields[0].detail) from None


def check_rules(rules: ContentRules, rows: Sequence[Row]) -> None:
    """Refuse the list if the operator's rules forbid one of its prompts; names every such row."""
    errors = []
    for row in rows:
        try:
            rules.check(row.prompt)
        except InvalidRequest as refused:
            errors.append(FieldError(f"/rows/{row.number}/{row.variant}", refused.code, str(refused)))
    if errors:
        raise InvalidFields(errors[:ERRORS_SHOWN_MOST])


def row_seed(row: Row) -> int:
    """The same for the same sku, variant and prompt, so that a list sent again gives the same pictures."""
    text = "\x1f".join((row.sku, row.variant, row.prompt))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")

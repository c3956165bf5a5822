"""A product list as people send it: any encoding and delimiter, columns in any order, and the same sheet back."""

from __future__ import annotations

import csv
import io
import re
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from charset_normalizer import from_bytes

from api.parser_words import of_csv
from core.errors import InvalidRequest

ROWS_MOST = 10_000
CELL_CHARACTERS_MOST = 20_000
DELIMITERS = ",;\t|"

#: What each column that we need may be called, lower case.
COLUMN_NAMES: Mapping[str, tuple[str, ...]] = {
    "sku": ("sku", "variant sku", "item_sku", "product_sku", "article", "货号", "款号", "商品编码", "商品编号", "编码"),
    "title": (
        "title",
        "name",
        "product name",
        "product title",
        "item_name",
        "标题",
        "商品名称",
        "商品标题",
        "品名",
        "名称",
    ),
}
#: Excel saves in the machine's own encoding; these are the ones that people's machines have.
ENCODINGS = ["gb18030", "big5", "cp932", "euc_kr", "cp1252", "cp1251", "cp1250"]

#: A cell that a spreadsheet would run as a formula.
_FORMULA = re.compile(r"[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?\d[\d.,]*%?")


@dataclass(frozen=True, slots=True)
class Sheet:
    """A sheet as it was sent: header and rows in their order, all columns kept, each row as long as the header."""

    delimiter: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def column(self, meaning: str) -> int | None:
        """Index of the column that holds `sku` or `title`, by any of its names."""
        names = [name.strip().lower() for name in self.header]
        return next((names.index(name) for name in COLUMN_NAMES[meaning] if name in names), None)

    def fields(self, row: Sequence[str]) -> dict[str, str]:
        """A row by its columns' names, lower case, and by `sku` and `title` whatever those columns are called."""
        named = {name.strip().lower(): cell.strip() for name, cell in zip(self.header, row, strict=True)}
        for meaning in COLUMN_NAMES:
            index = self.column(meaning)
            if index is not None:
                named[meaning] = row[index].strip()
        return named


def read_sheet(data: bytes) -> Sheet:
    """The sheet in `data`. Raises InvalidRequest naming `file` when it is not one, is empty or too long."""
    text = decode(data)
    if "\x00" in text:
        raise _wrong("The file is not a CSV: it holds NUL characters.")
    delimiter = find_delimiter(text)
    csv.field_size_limit(CELL_CHARACTERS_MOST)
    try:
        lines = [
            line for line in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if any(map(str.strip, line))
        ]
    except csv.Error as error:
        raise _wrong(f"The file is not a readable CSV ({of_csv(str(error))}).") from None
    if len(lines) < 2:
        raise _wrong("The file needs a header line and at least one row.")
    if len(lines) - 1 > ROWS_MOST:
        raise _wrong(f"The file has {len(lines) - 1} rows; at most {ROWS_MOST} are taken.")
    header, *rows = lines
    width = max(len(header), *(len(row) for row in rows))
    padded = [tuple(row + [""] * (width - len(row))) for row in [header, *rows]]
    return Sheet(delimiter, padded[0], tuple(padded[1:]))


def decode(data: bytes) -> str:
    """The text: by its byte order mark, as UTF-8, or by what its bytes look like (Excel's GB18030, Windows-1252, …)."""
    for mark, encoding in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if data.startswith(mark):
            return data.decode(encoding, errors="replace")
    try:
        return data.decode()
    except UnicodeDecodeError:
        best = from_bytes(data, cp_isolation=ENCODINGS).best()
    if best is None:
        raise _wrong("The file's encoding is not known; save it as UTF-8.")
    return str(best)


def find_delimiter(text: str) -> str:
    """The delimiter under which the header has the columns that we need; else what csv.Sniffer says; else a comma."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    for delimiter in DELIMITERS:
        cells = {cell.strip().lower() for cell in next(csv.reader([first], delimiter=delimiter), [])}
        if all(cells & set(names) for names in COLUMN_NAMES.values()):
            return delimiter
    try:
        return csv.Sniffer().sniff(first, delimiters=DELIMITERS).delimiter
    except csv.Error:
        return ","


def write_sheet(sheet: Sheet, columns: Mapping[str, Sequence[str]]) -> str:
    """The sheet as CSV with `columns` added, or filled in where the sheet has them already. Formulas are made text."""
    header = [*sheet.header, *(name for name in columns if name not in sheet.header)]
    places = {name: header.index(name) for name in columns}
    out = io.StringIO()
    writer = csv.writer(out, delimiter=sheet.delimiter, lineterminator="\r\n")
    writer.writerow([escape(cell) for cell in header])
    for index, row in enumerate(sheet.rows):
        cells = [escape(cell) for cell in row] + [""] * (len(header) - len(row))
        for name, place in places.items():
            cells[place] = columns[name][index]
        writer.writerow(cells)
    return out.getvalue()


def escape(cell: str) -> str:
    """The cell, with a quote before it if a spreadsheet would run it as a formula; numbers stay numbers."""
    return f"'{cell}" if _FORMULA.match(cell) and not _NUMBER.fullmatch(cell) else cell


def template_fields(template: str, *, name: str) -> set[str]:
    """The columns that a prompt template names as {column}. Raises InvalidRequest for anything else in braces."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError:
        raise InvalidRequest("The template has a brace without its other half.", field=name) from None
    for _, field, spec, conversion in parts:
        if field is not None and (not field.strip() or spec or conversion or set(field) & set(".[]")):
            raise InvalidRequest("A template may hold {column} only, nothing else in braces.", field=name)
    return {field.strip().lower() for _, field, _, _ in parts if field is not None}


def fill(template: str, fields: Mapping[str, str]) -> str:
    """The prompt of one row. The template was checked before."""
    pieces: Iterable[str] = (
        literal + (fields[field.strip().lower()] if field is not None else "")
        for literal, field, _, _ in string.Formatter().parse(template)
    )
    return "".join(pieces)


def _wrong(message: str) -> InvalidRequest:
    return InvalidRequest(message, field="file", code="invalid_sheet")

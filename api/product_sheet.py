"""A product list as people send it: any encoding and delimiter, columns in any order, and the same sheet back."""

from __future__ import annotations

import csv
import io
import re
import string
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from api.parser_words import of_csv
from api.sheet_encoding import decode
from core.errors import InvalidRequest

ROWS_MOST = 10_000
COLUMNS_MOST = 1_000
CELL_CHARACTERS_MOST = 20_000
#: Of the whole file, counted before it is read: a few megabytes of nothing but line ends or commas are no list.
LINES_MOST = 1_100_000  # a sheet of Excel, empty to its end, has 1,048,576
CELLS_MOST = 3_000_000
#: Of a template, as of a prompt.
TEMPLATE_CHARACTERS_MOST = 4_000
DELIMITERS = ",;\t|"
#: So much of a file tells its delimiter: more than a header of COLUMNS_MOST columns has.
HEAD_CHARACTERS = 64 * 1024

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
#: A cell that a spreadsheet would run as a formula.
_FORMULA = re.compile(r"[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?\d[\d.,]*%?")


@dataclass(frozen=True, slots=True)
class Sheet:
    """A sheet as it was sent: header and rows in their order, all columns kept.

    The header is as long as the longest row; a row may be shorter, and its last cells are empty.
    """

    delimiter: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    #: Which line of the file each row is, as a spreadsheet counts them; empty lines hold none.
    numbers: tuple[int, ...] = field(default=(), repr=False, compare=False)
    #: Where each column stands, by its name in lower case, and `sku` and `title` whatever those columns are called.
    places: Mapping[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = [name.strip().lower() for name in self.header]
        ours = {
            meaning: names.index(next(name for name in known if name in names))
            for meaning, known in COLUMN_NAMES.items()
            if set(known) & set(names)
        }
        object.__setattr__(self, "places", {name: place for place, name in enumerate(names)} | ours)

    def number(self, index: int) -> int:
        """Of a row: what a spreadsheet calls it."""
        return self.numbers[index] if self.numbers else index + 2

    def fields(self, row: Sequence[str], names: Collection[str] | None = None) -> dict[str, str]:
        """A row's cells by their columns' names (`places`): all of them, or those of `names`."""
        places = {name: self.places[name] for name in (self.places if names is None else names)}
        return {name: row[place].strip() if place < len(row) else "" for name, place in places.items()}


def read_sheet(data: bytes) -> Sheet:
    """The sheet in `data`. Raises InvalidRequest naming `file` when it is not one, is empty or too large."""
    text = decode(data)
    if "\x00" in text:
        raise _wrong("The file is not a CSV: it holds NUL characters.")
    csv.field_size_limit(CELL_CHARACTERS_MOST)
    delimiter = find_delimiter(text)
    _check_amount(text, delimiter)
    lines, numbers, count = _lines(text, delimiter)
    if count < 2:
        raise _wrong("The file needs a header line and at least one row.")
    if count - 1 > ROWS_MOST:
        raise _wrong(f"The file has {count - 1} rows; at most {ROWS_MOST} are taken.")
    header, *rows = lines
    width = max(map(len, lines))
    return Sheet(delimiter, (*header, *[""] * (width - len(header))), tuple(rows), tuple(numbers[1:]))


def _check_amount(text: str, delimiter: str) -> None:
    """Refuse by counting what would be far more to read than any list has."""
    lines = text.count("\n") + text.count("\r") - text.count("\r\n")
    if lines > LINES_MOST:
        raise _wrong(f"The file has {lines} lines; at most {LINES_MOST} are read.")
    cells = text.count(delimiter) + lines + 1
    if cells > CELLS_MOST:
        raise _wrong(f"The file has {cells} cells; at most {CELLS_MOST} are read.")


def _lines(text: str, delimiter: str) -> tuple[list[tuple[str, ...]], list[int], int]:
    """The lines that hold something and their numbers, no more than are taken, and how many there are."""
    kept: list[tuple[str, ...]] = []
    numbers: list[int] = []
    count = 0
    try:
        for number, line in enumerate(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), start=1):
            if len(line) > COLUMNS_MOST:
                raise _wrong(f"The file has a line of {len(line)} columns; at most {COLUMNS_MOST} are read.")
            if any(map(str.strip, line)):
                count += 1
                if count <= ROWS_MOST + 1:
                    kept.append(tuple(line))
                    numbers.append(number)
    except csv.Error as error:
        raise _wrong(f"The file is not a readable CSV ({of_csv(str(error))}).") from None
    return kept, numbers, count


def find_delimiter(text: str) -> str:
    """The delimiter under which the header has the columns that we need; else the one that it holds most of; else a
    comma.

    Only the first HEAD_CHARACTERS are looked at, each once for each delimiter, whatever stands in them.
    """
    head = text.lstrip()[:HEAD_CHARACTERS]
    headers = {delimiter: _first_line(head, delimiter) for delimiter in DELIMITERS}
    for delimiter, cells in headers.items():
        names = {cell.strip().lower() for cell in cells}
        if all(names & set(known) for known in COLUMN_NAMES.values()):
            return delimiter
    return max(DELIMITERS, key=lambda delimiter: len(headers[delimiter]))


def _first_line(head: str, delimiter: str) -> list[str]:
    try:
        reader = csv.reader(io.StringIO(head, newline=""), delimiter=delimiter)
        return next((line for line in reader if any(map(str.strip, line))), [])
    except csv.Error:
        return []


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


@dataclass(frozen=True, slots=True)
class Template:
    """A prompt with columns in braces, read once for all rows."""

    form: str  # for the operator %, which fills in a thousand cells at once
    columns: tuple[str, ...]  # in the order of their places
    words: int  # characters beside the columns
    uses: Mapping[str, int]  # how often each column occurs

    def length(self, fields: Mapping[str, str]) -> int:
        """How many characters `fill` would write."""
        return self.words + sum(times * len(fields[name]) for name, times in self.uses.items())

    def fill(self, fields: Mapping[str, str]) -> str:
        """The prompt of one row."""
        return self.form % tuple(map(fields.__getitem__, self.columns))


def read_template(text: str, *, name: str) -> Template:
    """The template of the variant `name`. Raises InvalidRequest for a long one and anything but {column} in braces."""
    if len(text) > TEMPLATE_CHARACTERS_MOST:
        message = f"{name} may have at most {TEMPLATE_CHARACTERS_MOST} characters"
        raise InvalidRequest(message, field=name, code="too_long")
    pieces = list(_pieces(text, name))
    columns = tuple(column for _, column in pieces if column is not None)
    form = "".join(words.replace("%", "%%") + ("%s" if column is not None else "") for words, column in pieces)
    return Template(form, columns, sum(len(words) for words, _ in pieces), Counter(columns))


def _pieces(text: str, name: str) -> Iterator[tuple[str, str | None]]:
    """Words, and the column that follows them."""
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError:
        raise InvalidRequest("The template has a brace without its other half.", field=name) from None
    for words, column, spec, conversion in parts:
        if column is not None and (not column.strip() or spec or conversion or set(column) & set(".[]")):
            raise InvalidRequest("A template may hold {column} only, nothing else in braces.", field=name)
        yield words, None if column is None else column.strip().lower()


def _wrong(message: str) -> InvalidRequest:
    return InvalidRequest(message, field="file", code="invalid_sheet")

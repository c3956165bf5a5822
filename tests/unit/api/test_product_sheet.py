"""Product lists as people's programs write them."""

import csv
import gc
import io
import re
import tracemalloc

import pytest

from api.batch_rows import plan_rows, row_seed
from api.batches import DEFAULT_TEMPLATES
from api.errors import InvalidFields
from api.product_sheet import Sheet, escape, find_delimiter, read_sheet, write_sheet
from api.sheet_encoding import decode
from api.translation import in_chinese
from core.errors import InvalidRequest

CHINESE = "货号,商品名称,颜色\nA-1,陶瓷马克杯，手工制作,红色\nA-2,实木书架，三层,原木色\nA-3,不锈钢保温杯,黑色\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
def test_chinese_lists_are_read_in_the_encodings_of_excel(encoding):
    sheet = read_sheet(CHINESE.encode(encoding))

    assert sheet.header == ("货号", "商品名称", "颜色")
    assert sheet.rows[0] == ("A-1", "陶瓷马克杯，手工制作", "红色")
    assert sheet.fields(sheet.rows[1])["title"] == "实木书架，三层"


def test_western_lists_with_semicolons_in_windows_1252_are_read():
    text = "SKU;Title;Price\nK-1;Café-Tasse für Gäste;12,50\nK-2;Crème brûlée Schälchen;8,00\nK-3;Gläser, groß;9,90\n"

    sheet = read_sheet(text.encode("cp1252"))

    assert sheet.delimiter == ";"
    assert sheet.rows[0] == ("K-1", "Café-Tasse für Gäste", "12,50")


def test_quoted_cells_with_delimiters_and_line_ends_stay_whole():
    sheet = read_sheet(b'sku,title,note\nA,"mug, red","two\nlines"\n')

    assert sheet.rows == (("A", "mug, red", "two\nlines"),)


def test_shopify_headers_are_known_and_unknown_columns_kept():
    sheet = read_sheet(b"Handle,Title,Variant SKU,Vendor\nred-mug,Red mug,M-1,Acme\n")

    assert sheet.fields(sheet.rows[0])["sku"] == "M-1"
    assert sheet.header == ("Handle", "Title", "Variant SKU", "Vendor")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"sku,title\n",
        b"\n\n",
        b"sku,title\nA,\x00\n",
        b"sku,title\n" + b"A,B\n" * 10_001,
        b"sku,title\nA," + b"x" * 30_000,
    ],
)
def test_what_is_not_a_list_is_refused_naming_the_file(data):
    with pytest.raises(InvalidRequest) as refused:
        read_sheet(data)

    assert refused.value.field == "file"


def test_the_same_sheet_comes_back_with_columns_added():
    sheet = read_sheet(b"sku,title,extra\nA,mug,x\nB,bowl\n")

    text = write_sheet(sheet, {"white_url": ["u1", "u2"]})

    assert list(csv.reader(io.StringIO(text))) == [
        ["sku", "title", "extra", "white_url"],
        ["A", "mug", "x", "u1"],
        ["B", "bowl", "", "u2"],
    ]


def test_a_sheet_that_has_the_columns_already_is_filled_not_widened():
    sheet = Sheet(",", ("sku", "title", "white_url"), (("A", "mug", "old"),))

    assert write_sheet(sheet, {"white_url": ["new"]}).splitlines() == ["sku,title,white_url", "A,mug,new"]


@pytest.mark.parametrize("cell", ['=HYPERLINK("http://evil")', "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1"])
def test_formulas_are_made_text(cell):
    assert escape(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", ["-5", "+3.5", "-1,200.00", "-12%", "plain", "1=1", ""])
def test_numbers_and_plain_cells_stay_as_they_are(cell):
    assert escape(cell) == cell


def test_each_row_gets_both_variants_with_its_own_words():
    sheet = read_sheet(b"sku,title,color\nA,mug,red\n")

    rows = plan_rows(sheet, {"white": "{color} {title} on white", "scene": "{title} in a kitchen"})

    assert [(row.sku, row.variant, row.prompt) for row in rows] == [
        ("A", "white", "red mug on white"),
        ("A", "scene", "mug in a kitchen"),
    ]


def test_the_words_of_a_template_are_kept_letter_for_letter():
    sheet = read_sheet(b"sku,title,2024\nA,{mug} 100%s,50%\n")

    (row,) = plan_rows(sheet, {"white": "{{ {Title} }} 100% {2024} %s %(title)s {title}"})

    assert row.prompt == "{ {mug} 100%s } 100% 50% %s %(title)s {mug} 100%s"


def test_all_wrong_rows_are_told_at_once_by_their_line_in_the_sheet():
    sheet = read_sheet(b"sku,title\nA,mug\n,bowl\nC,\n")

    with pytest.raises(InvalidFields) as refused:
        plan_rows(sheet, DEFAULT_TEMPLATES)

    assert [field.pointer for field in refused.value.fields] == ["/rows/3/sku", "/rows/4/title"]


@pytest.mark.parametrize(
    "template", ["{nothing}", "{title!r}", "{title:>10}", "{title.__class__}", "{0[x]}", "{", "{}"]
)
def test_a_template_holds_columns_and_nothing_else(template):
    sheet = read_sheet(b"sku,title\nA,mug\n")

    with pytest.raises(InvalidRequest) as refused:
        plan_rows(sheet, {"white": template})

    assert refused.value.field == "white"


def test_a_list_without_the_needed_columns_is_refused():
    with pytest.raises(InvalidRequest, match="sku"):
        plan_rows(read_sheet(b"name,price\nmug,3\n"), DEFAULT_TEMPLATES)


def test_the_seed_of_a_row_follows_from_what_is_drawn():
    first, again = (plan_rows(read_sheet(b"sku,title\nA,mug\n"), DEFAULT_TEMPLATES) for _ in range(2))

    assert [row_seed(row) for row in first] == [row_seed(row) for row in again]
    assert row_seed(first[0]) != row_seed(first[1])
    assert all(0 <= row_seed(row) < 2**32 for row in first)


def test_bytes_that_are_no_text_are_refused_or_read_but_never_crash():
    assert isinstance(decode(b"sku;title\nA;caf\xe9 au lait\n"), str)


#: What made csv.Sniffer search for a quarter of a minute: quotes and delimiters in every order, and no end.
RIDDLE = ',"a ;"a |"a \t"a ' * 6_000


@pytest.mark.timeout(120)
def test_a_header_that_is_a_riddle_is_refused_by_a_bound_and_not_puzzled_over():
    with pytest.raises(InvalidRequest) as refused:
        plan_rows(read_sheet(f"{RIDDLE}\n1,2\n".encode()), DEFAULT_TEMPLATES)

    assert (refused.value.code, refused.value.field) == ("invalid_sheet", "file")


@pytest.mark.parametrize("cells", ["x" * 140_000, "x" * 21_000, '"' + "x" * 140_000])
def test_a_header_cell_that_is_too_long_is_no_sheet(cells):
    with pytest.raises(InvalidRequest) as refused:
        read_sheet(f"{cells},sku,title\nA,B,C\n".encode())

    assert (refused.value.code, refused.value.field) == ("invalid_sheet", "file")


@pytest.mark.parametrize(
    ("header", "delimiter"),
    [
        ("a;b;c,d", ";"),
        ("a|b", "|"),
        ("a\tb\tc", "\t"),
        ('"a;b;c";x,y,z', ","),
        ("alone", ","),
        ("", ","),
    ],
)
def test_without_our_columns_the_delimiter_is_the_one_that_occurs_most_outside_of_quotes(header, delimiter):
    assert find_delimiter(f"\n{header}\n1,2;3|4\n") == delimiter


def test_our_columns_are_found_behind_a_cell_of_several_lines_and_hundreds_of_others():
    others = ";".join(f"column {number}" for number in range(900))

    sheet = read_sheet(f'"of, the, spring\nlist";{others};sku;title\n1{";" * 901}A;mug\n'.encode())

    assert sheet.delimiter == ";"
    assert sheet.fields(sheet.rows[0], ("sku", "title")) == {"sku": "A", "title": "mug"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("sku,title\na,b" + "," * 40_000 + "\n" + "a,b\n" * 3_000, "40002 columns"),
        ("sku,title" + "," * 999 + "\na,b\n", "1001 columns"),
        ("sku,title\na,b" + "\n" * 1_200_000, "1200001 lines"),
        ("sku,title\na,b\n" + "," * 3_100_000, "3100005 cells"),
    ],
)
def test_more_than_any_list_holds_is_refused_with_its_number_and_a_bound(text, told):
    with pytest.raises(InvalidRequest, match=told) as refused:
        read_sheet(text.encode())

    assert (refused.value.code, refused.value.field) == ("invalid_sheet", "file")
    assert not re.search("[A-Za-z]+ [a-z]+ [a-z]+", in_chinese(str(refused.value)))


def test_a_short_row_stays_short_however_wide_another_is():
    sheet = read_sheet(b"sku,title\n" + b"a,b" + b"," * 900 + b"\n" + b"a,b\n" * 3_000)

    assert len(sheet.header) == 902
    assert sum(len(row) for row in sheet.rows) == 902 + 2 * 3_000
    assert [line.count(",") for line in write_sheet(sheet, {}).splitlines()[:3]] == [901, 901, 901]


def test_a_row_without_its_last_cells_has_them_empty():
    sheet = read_sheet(b"sku,title,color\nA,mug\n")

    assert sheet.fields(sheet.rows[0]) == {"sku": "A", "title": "mug", "color": ""}


def peak_of(call):
    """The most bytes that Python held while `call` ran, above what it held before."""
    gc.collect()
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_template_is_as_long_as_a_prompt_at_most():
    with pytest.raises(InvalidRequest) as refused:
        plan_rows(read_sheet(b"sku,title\nA,mug\n"), {"white": "{title}" * 30_000})

    assert (refused.value.code, refused.value.field) == ("too_long", "white")


def test_a_prompt_that_would_be_too_long_is_measured_and_never_written():
    sheet = read_sheet(b"sku,title\nA," + b"x" * 19_000 + b"\n")

    def plan():
        with pytest.raises(InvalidFields, match="prompt has 10830000 characters; at most 4000 are read"):
            plan_rows(sheet, {"white": "{title}" * 570})

    assert peak_of(plan) < 1_000_000


def test_a_list_whose_rows_are_all_wrong_is_read_until_it_is_known_what_to_tell():
    names = [f"c{number}" for number in range(500)]
    sheet = read_sheet(f"sku,title,{','.join(names)}\n".encode() + b"A,mug\n" * 5_000)

    def plan():
        with pytest.raises(InvalidFields) as refused:
            plan_rows(sheet, {"white": "".join(f"{{{name}}}" for name in names)})
        assert len(refused.value.fields) == 100

    assert peak_of(plan) < 2_000_000


def test_the_prompts_of_a_list_have_a_bound_together():
    sheet = read_sheet(b"sku,title\n" + b"A,mug\n" * 10_000)

    with pytest.raises(InvalidRequest, match="20000000 characters together") as refused:
        plan_rows(sheet, {"white": "{title} " + "x" * 3_000})

    assert (refused.value.code, refused.value.field) == ("invalid_sheet", "file")


def test_rows_are_called_as_a_spreadsheet_calls_them_though_lines_between_are_empty():
    """Excel's line 6 was told as row 4, and the wrong row was mended."""
    sheet = read_sheet(b'sku;title\r\n\r\nA;"two\r\nlines"\r\n;\r\n\r\nB;\r\n')

    assert [sheet.number(index) for index in range(2)] == [3, 6]
    with pytest.raises(InvalidFields) as refused:
        plan_rows(sheet, {"white": "{title}"})
    assert [error.detail for error in refused.value.fields] == ["row 6: title is empty"]


def test_a_sheet_without_numbers_counts_its_rows_below_the_header():
    assert Sheet(",", ("sku", "title"), (("A", "mug"), ("B", "cup"))).number(1) == 3

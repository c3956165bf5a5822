"""What Python's parsers complain of is told in words of ours, which both languages have."""

import csv
import io
import json
import re

import pytest

from api.errors import AS_DOCS_SAY, invalid_fields
from api.parser_words import NOT_CSV, NOT_JSON, OF_CSV, OF_JSON, of_csv, of_json
from api.product_sheet import read_sheet, read_template
from api.strict_json import parse_object
from api.translation import in_chinese
from core.errors import InvalidRequest

BROKEN = [
    b'{"prompt":"a",}', b'{"a" 1}', b'{"a":1 "b":2}', b"{'a':1}", b'{"a":', b'{"a":"b', b'{"a":"\n"}', b'{"a":"\\x"}',
    b'{"a":1}}', b"", b'{"a":tru}', b'{"a":"\\u12"}', b'\xef\xbb\xbf{"a":1}',
]  # fmt: skip
TEMPLATES = ["{title", "title}", "{title!", "{title!r", "{{title}", "{title:{"]
#: Three words of English in a row.
ENGLISH = re.compile(r"[A-Za-z']+ [a-z]+ [a-z]+")


def refusal(call):
    with pytest.raises(InvalidRequest) as refused:
        call()
    return str(refused.value)


@pytest.mark.parametrize("body", BROKEN)
def test_what_is_no_json_is_said_in_chinese_too(body):
    chinese = in_chinese(refusal(lambda: parse_object(body)))

    assert chinese
    assert not ENGLISH.search(chinese), chinese


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_with_a_lone_brace_is_refused_in_chinese_too(template):
    chinese = in_chinese(refusal(lambda: read_template(template, name="white")))

    assert chinese
    assert not ENGLISH.search(chinese), chinese


def test_a_cell_that_is_too_long_is_refused_in_chinese_too():
    told = refusal(lambda: read_sheet(b"sku,title\nA," + b"x" * 20_001))

    assert "20000" in told
    assert not ENGLISH.search(in_chinese(told)), told


@pytest.mark.parametrize("ours", [*OF_JSON.values(), NOT_JSON, *OF_CSV.values(), NOT_CSV])
def test_each_reason_has_its_chinese(ours):
    assert re.search("[\u4e00-\u9fff]", in_chinese(ours))


def test_every_complaint_of_pythons_json_has_words_of_its_own():
    for body in BROKEN[:-1]:
        with pytest.raises(json.JSONDecodeError) as broken:
            json.loads(body.decode())
        assert of_json(broken.value.msg) != NOT_JSON, broken.value.msg


def test_a_complaint_of_tomorrow_names_the_standard():
    assert (of_json("Something new"), of_csv("Something new")) == (NOT_JSON, NOT_CSV)
    with pytest.raises(csv.Error) as broken:
        list(csv.reader(io.StringIO("a\rb"), strict=True))
    assert of_csv(str(broken.value)) == OF_CSV["new-line"]


def test_what_pydantic_says_beside_our_table_is_not_repeated():
    class OfTomorrow:
        title = "JobCreate"

        def errors(self, **_):
            return [{"type": "of_tomorrow", "loc": ("seed",), "msg": "Python speaks"}]

    (field,) = invalid_fields(OfTomorrow()).fields

    assert field.detail == AS_DOCS_SAY.format(name="seed")

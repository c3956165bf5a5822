"""Lists that Excel saved in a machine's own encoding are read as they were written, small ones too."""

import random

import pytest

from api.sheet_encoding import SAMPLE_BYTES, decode
from core.errors import InvalidRequest

#: By encoding and language: what is sold, and what it is like.
WORDS = {
    "cp1252 French": (
        "Théière|Sac à main|Crème de nuit|Poêle|Écharpe|Tasse à café",
        "en chêne|émaillée|à motifs|noire",
    ),
    "cp1252 Spanish": ("Taza|Sombrero de niño|Lámpara|Pañuelo|Cojín", "de cerámica|de algodón|pequeño|rojo"),
    "cp1252 Portuguese": ("Xícara|Chapéu|Tênis|Relógio|Calção", "de algodão|de cerâmica|com padrão|de aço"),
    "cp1252 Italian": ("Tazza|Sedia|Caffettiera", "per la città|di qualità|più grande"),
    "cp1252 German": ("Gießkanne|Schüssel|Öllampe|Kaffeemühle", "grün|weiß|groß|aus Holz"),
    "cp1252 Swedish": ("Skål|Väska|Åra|Stol", "röd|blå|för kök|stor"),
    "cp1252 Danish": ("Skål|Tæppe|Lampe", "rød|til køkken|grøn|blå"),
    "cp1254 Turkish": ("Kahve fincanı|Çanta|Şemsiye|Gömlek", "kırmızı|yeşil|büyük|ahşap"),
    "cp1250 Polish": ("Krzesło|Łyżka|Żyrandol|Kubek", "żółta|średni|dla dzieci|składane"),
    "cp1250 Czech": ("Židle|Lžíce|Deštník|Košile", "červený|dřevěná|žlutý|malý"),
    "cp1251 Russian": ("Кружка|Палатка|Зонт|Лампа", "красная|зелёная|жёлтый|синие"),
    "gb18030 Chinese": ("马克杯|双人帐篷|雨伞|牛仔裤|保温杯", "红色陶瓷|绿色|黄色|不锈钢"),
    "big5 Chinese": ("馬克杯|雙人帳篷|雨傘|牛仔褲", "紅色陶瓷|綠色|黃色|不鏽鋼"),
    "cp932 Japanese": ("マグカップ|テント|傘|スニーカー", "赤い|緑の|黄色い|青い"),
    "euc_kr Korean": ("머그컵|텐트|우산|운동화", "빨간|초록색|노란|파란"),
}


def product_list(name: str, rows: int, seed: int) -> str:
    chance = random.Random(f"{name} {seed}")
    things, kinds = (words.split("|") for words in WORDS[name])
    lines = [f"A-{at:04};{chance.choice(things)} {chance.choice(kinds)}" for at in range(rows)]
    return "\r\n".join(["sku;title", *lines, ""])


@pytest.mark.parametrize("rows", [3, 10, 300])
@pytest.mark.parametrize("name", WORDS)
def test_a_list_in_a_machines_own_encoding_is_read_letter_by_letter(name, rows):
    """Of French, Spanish or Danish lists with 300 rows most were read as Windows-1250: Pańuelo, Skĺl."""
    encoding = name.split()[0]
    for seed in range(12):
        text = product_list(name, rows, seed)
        if not text.isascii():
            assert decode(text.encode(encoding)) == text


@pytest.mark.parametrize(
    ("encoding", "title"),
    [
        ("cp1252", "Sombrero de niño"),
        ("cp1252", "Tazza città"),
        ("cp1252", "Skål"),
        ("cp1250", "Żółta parasolka"),
        ("cp1250", "Krzesło ogrodowe składane"),
        ("cp1251", "Синие джинсы"),
        ("gb18030", "绿色双人帐篷"),
        ("big5", "綠色雙人帳篷"),
        ("cp932", "赤いマグカップ"),
        ("cp1252", "Mug 30 × 20 mm, “café” – 5 €"),
    ],
)
def test_a_list_of_one_row_is_read_too(encoding, title):
    text = f"sku;title\r\nA-1;{title}\r\n"
    assert decode(text.encode(encoding)) == text


def test_a_long_list_is_judged_by_a_part_of_it_and_read_whole():
    text = product_list("cp1252 German", 40_000, 1)
    data = text.encode("cp1252")
    assert len(data) > 20 * SAMPLE_BYTES
    assert decode(data) == text


def test_an_encoding_that_fits_the_beginning_and_not_the_rest_is_not_taken():
    text = product_list("cp1252 German", 4_000, 1)
    data = text.encode("cp1252") + b"A-9;\x81\r\n"  # no letter of cp1252
    assert decode(data).startswith(text[:9])


@pytest.mark.parametrize("seed", range(20))
def test_what_is_no_text_is_read_as_something_or_refused_by_its_field(seed):
    data = random.Random(seed).randbytes(4_000)
    try:
        read = decode(data)
    except InvalidRequest as refused:
        read = refused.field

    assert read
    assert isinstance(read, str)

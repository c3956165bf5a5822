"""In which encoding a product list was saved: Excel uses the machine's own and does not say which.

The encodings' own statistics decide between scripts, and each one-byte code page is measured by the alphabets of the
languages that it is used for: 1250 and 1252 share most of their letters' shapes, and none of their places.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

from charset_normalizer import from_bytes

from core.errors import InvalidRequest

#: By code page: the letters of each language beyond ASCII, in lower case.
ALPHABETS: dict[str, tuple[str, ...]] = {
    "cp1252": (
        "àâæçéèêëîïôœùûüÿ",  # French
        "áéíñóúü",  # Spanish
        "áâãàçéêíóôõúü",  # Portuguese
        "àèéìíîòóùú",  # Italian
        "äöüß",  # German
        "äåöé",  # Swedish, Finnish
        "åæøéó",  # Danish, Norwegian
        "áèéëïóöü",  # Dutch
    ),
    "cp1254": ("çğıi̇öşüâîû",),  # Turkish
    "cp1250": (
        "ąćęłńóśźż",  # Polish
        "áčďéěíňóřšťúůýž",  # Czech
        "áäčďéíĺľňóôŕšťúýž",  # Slovak
        "áéíóöőúüű",  # Hungarian
        "čćđšž",  # Croatian, Slovene
        "ăâîșțşţ",  # Romanian
    ),
    "cp1251": (
        "абвгдеёжзийклмнопрстуфхцчшщъыьэюя",  # Russian
        "абвгґдеєжзиіїйклмнопрстуфхцчшщьюя",  # Ukrainian
    ),
}
CYRILLIC = "cp1251"
#: What any of them may hold besides.
SIGNS = frozenset("’‘“”„–—…€£°²³®™©½¼¾×«»·•¡¿ºª±µ\u00a0")
#: Of these, what stands between letters as a matter of course, or ends a word.
JOINING = frozenset("’‘”…®™·\u00a0»")
#: Where two fit alike, the earlier one.
ENCODINGS = ["gb18030", "big5", "cp932", "euc_kr", "cp1252", "cp1254", "cp1250", "cp1251"]
#: So much of a file is looked at; what fits alike to within this share is as likely.
SAMPLE_BYTES, ALIKE = 32 * 1024, 0.001
_TELLING = re.compile(rb"[^\r\n]*[\x80-\xff][^\r\n]*")


def _is_common_gb(code: bytes) -> bool:
    return len(code) == 2 and code[1] >= 0xA1 and (0xB0 <= code[0] <= 0xD7 or code[0] in (0xA1, 0xA3))


def _is_common_big5(code: bytes) -> bool:
    return len(code) == 2 and (0xA4 <= code[0] <= 0xC6 or code[0] == 0xA1)


def _is_common_932(code: bytes) -> bool:
    return len(code) == 2 and (0x81 <= code[0] <= 0x83 or 0x88 <= code[0] <= 0x97)


def _is_common_kr(code: bytes) -> bool:
    return len(code) == 2 and (0xB0 <= code[0] <= 0xC8 or code[0] in (0xA1, 0xA3))


#: Whether a character is one of those that most texts in the encoding are made of.
COMMON: dict[str, Callable[[bytes], bool]] = {
    "gb18030": _is_common_gb,
    "big5": _is_common_big5,
    "cp932": _is_common_932,
    "euc_kr": _is_common_kr,
}


def decode(data: bytes) -> str:
    """The text: by its byte order mark, as UTF-8, or by what its bytes look like (Excel's GB18030, Windows-1252, …).

    Raises InvalidRequest that names `file` where no encoding fits.
    """
    for mark, encoding in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if data.startswith(mark):
            return data.decode(encoding, errors="replace")
    try:
        return data.decode()
    except UnicodeDecodeError:
        return _decode_by_looks(data)


def _decode_by_looks(data: bytes) -> str:
    sample = _sample(data)
    for name in _by_fit(sample):
        try:
            return data.decode(name)
        except UnicodeDecodeError:
            continue
    raise InvalidRequest("The file's encoding is not known; save it as UTF-8.", field="file", code="invalid_sheet")


def _by_fit(sample: bytes) -> list[str]:
    """All encodings, the one that fits best first."""
    fitting = {name: strangeness(sample, name) for name in ENCODINGS}
    least = min(fitting.values())
    best = [name for name in ENCODINGS if fitting[name] <= least + ALIKE]
    first = best[0] if len(best) == 1 else _likeliest(sample, best)
    return [first, *sorted((name for name in ENCODINGS if name != first), key=lambda name: fitting[name])]


def _sample(data: bytes) -> bytes:
    """So much of the lines with something beyond ASCII as tells the encoding."""
    kept, size = [], 0
    for line in _TELLING.finditer(data):
        kept.append(line[0][: SAMPLE_BYTES - size])
        size += len(kept[-1])
        if size >= SAMPLE_BYTES:
            break
    return b"\n".join(kept)


def strangeness(data: bytes, encoding: str) -> float:
    """The share of bytes beyond ASCII that make no usual character of a language of this encoding."""
    text = data.decode(encoding, errors="replace")
    beyond = sum(byte > 127 for byte in data)
    if encoding in COMMON:
        return _strange_bytes(text, encoding) / beyond
    least = min(_strange_letters(text, frozenset(alphabet)) for alphabet in ALPHABETS[encoding])
    return (least + (_mixed_words(text) if encoding == CYRILLIC else 0)) / beyond


def _strange_bytes(text: str, encoding: str) -> float:
    """Bytes of rare characters; and of those inside words of other letters."""
    rare = 0
    for character, count in Counter(text).items():
        code = character.encode(encoding, errors="replace")
        if not character.isascii() and not COMMON[encoding](code):
            rare += count * max(len(code), 2)
    return rare + _mixed_words(text)


def _mixed_words(text: str) -> float:
    """Half of how often a letter beyond ASCII stands beside a small Latin one, which only Latin scripts do."""
    return sum(_is_small(one) != _is_small(two) and not (one + two).isascii() for one, two in pairwise(text)) / 2


def _strange_letters(text: str, alphabet: frozenset[str]) -> float:
    """Letters of other languages, and capitals and signs in the middle of a word."""
    strange = sum(
        count
        for character, count in Counter(text).items()
        if not character.isascii() and character not in SIGNS and character.lower() not in alphabet
    )
    strange += sum(one.islower() and not two.isascii() and two.isupper() for one, two in pairwise(text))
    return strange + sum(one.isalpha() and two in SIGNS - JOINING for one, two in pairwise(text))


def _is_small(character: str) -> bool:
    return character.isascii() and character.islower()


def _likeliest(data: bytes, names: list[str]) -> str:
    """Of encodings that fit alike: the first code page of Latin letters, else what statistics of whole texts say."""
    if all(name in ALPHABETS and name != CYRILLIC for name in names):
        return names[0]
    found = from_bytes(data, cp_isolation=names).best()
    return found.encoding if found is not None and found.encoding in names else names[0]

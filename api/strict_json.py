"""A request whose JSON is read strictly: bounded, UTF-8, one object, no member twice, no NaN, no broken characters."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

from flask import Request

from api.errors import FieldError, InvalidFields, TooLarge, UnsupportedMediaType
from api.parser_words import of_json
from core.errors import InvalidRequest

#: Of a JSON body. A prompt has at most 4,000 characters; the rest is room for clients' own extras.
JSON_BYTES_MOST = 256 * 1024
DEPTH_MOST = 32


class ZimgRequest(Request):
    """Flask's request with a strict `get_json`, which raises our errors whatever its arguments."""

    def get_json(self, force: bool = False, silent: bool = False, cache: bool = True) -> Any:
        if not hasattr(self, "_strict_json"):
            self._strict_json = self._read_json()
        return self._strict_json

    def _read_json(self) -> dict[str, Any]:
        if self._is_without_body:
            return {}
        if not self.is_json:
            raise UnsupportedMediaType("Send the body as Content-Type: application/json.")
        require_plain(self)
        return parse_object(self.read_bounded(JSON_BYTES_MOST))

    @property
    def _is_without_body(self) -> bool:
        """No body and no word of one: an object without members, for the routes where none has to be named."""
        return not self.content_type and not self.content_length and "Transfer-Encoding" not in self.headers

    def read_bounded(self, most: int) -> bytes:
        """The body, refused above `most` bytes: before it is read where its length is told, else at one byte more."""
        if self.content_length is not None and self.content_length > most:
            raise TooLarge(f"The body has {self.content_length} bytes; at most {most} are read.")
        self.max_content_length = most + 1  # at its bound a body in chunks is cut off without a word
        data = self.get_data(cache=True)
        if len(data) > most:
            raise TooLarge(f"The body is too large; at most {most} bytes are read.")
        return data


def require_plain(request: Request) -> None:
    """Refuse a compressed body: its bytes would be no JSON, and a few of them could become any number."""
    if request.headers.get("Content-Encoding", "").strip().lower() not in ("", "identity"):
        raise UnsupportedMediaType("Send the body without Content-Encoding; compressed ones are not read.")


def parse_object(data: bytes) -> dict[str, Any]:
    """The JSON object in `data`; raises InvalidRequest saying what is wrong with it, without repeating it."""
    try:
        value = json.loads(data.decode(), object_pairs_hook=_object, parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise InvalidRequest("The body is not UTF-8.", code="invalid_json") from None
    except json.JSONDecodeError as error:
        message = f"The body is not valid JSON (line {error.lineno}, column {error.colno}: {of_json(error.msg)})."
        raise InvalidRequest(message, code="invalid_json") from None
    except RecursionError:
        raise InvalidRequest("The body is nested too deeply.", code="invalid_json") from None
    except ValueError:  # Python refuses to read integers of more than 4,300 digits
        raise InvalidRequest("The body holds a number with too many digits.", code="invalid_json") from None
    if not isinstance(value, dict):
        raise InvalidRequest("The body must be a JSON object.", code="invalid_json")
    _check(value, "", 0)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        times = Counter(name for name, _ in pairs)  # one pass: a body may hold tens of thousands of names
        twice = next(name for name, count in times.items() if count > 1)
        raise InvalidFields([FieldError(f"/{printable(twice)}", "duplicate_field", "A member may occur once only.")])
    return found


def _refuse_constant(name: str) -> Any:
    raise InvalidRequest(f"{name} is not a JSON value.", code="invalid_json")


def _check(value: Any, pointer: str, depth: int) -> None:
    """Refuse anywhere what could not be told again as JSON: lone surrogates (half of a character, which no UTF-8 can
    hold; in names of members too), and numbers that Python reads as infinite.
    """
    if depth > DEPTH_MOST:
        raise InvalidRequest("The body is nested too deeply.", code="invalid_json")
    if isinstance(value, str) and not _is_encodable(value):
        message = "Half of a surrogate pair is not a character."
        raise InvalidFields([FieldError(printable(pointer) or "/", "invalid_character", message)])
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidFields(
            [FieldError(pointer, "out_of_range", "A number may have at most 308 digits before its point.")]
        )
    if isinstance(value, dict):
        for name, item in value.items():
            _check(name, f"{pointer}/{printable(name)}", depth + 1)
            _check(item, f"{pointer}/{printable(name)}", depth + 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check(item, f"{pointer}/{index}", depth + 1)


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable(name: str) -> str:
    """A client's own name, bounded and safe to repeat in a header or an error."""
    return "".join(character if character.isascii() and character.isprintable() else "?" for character in name[:64])

"""What several tests of the api's parts share."""

import pytest

from api import content_rules
from api.content_rules import ContentRules


@pytest.fixture
def rules_of(tmp_path, monkeypatch):
    """Rules from a file's text or bytes, looked at anew with each check."""
    monkeypatch.setattr(content_rules, "LOOK_SECONDS", 0.0)
    path = tmp_path / "blocked.txt"

    def make(data):
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return ContentRules(str(path)), path

    return make

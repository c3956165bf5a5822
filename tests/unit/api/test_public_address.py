"""What the api's start says about the address by which others know the service."""

import pytest
from structlog.testing import capture_logs

from api.public_address import tell_if_missing
from core.settings import Settings


@pytest.mark.parametrize(
    ("host", "address", "lines"),
    [("127.0.0.1", "", 0), ("0.0.0.0", "https://zimg.example", 0), ("0.0.0.0", "", 1), ("10.1.2.3", "", 1)],
)
def test_a_start_for_other_machines_without_a_public_address_warns_once(host, address, lines):
    with capture_logs() as told:
        tell_if_missing(Settings(host=host, public_base_url=address))

    assert [line["log_level"] for line in told] == ["warning"] * lines
    assert all("ZIMG_PUBLIC_BASE_URL" in line["event"] and "webhook" in line["event"] for line in told)

"""What gunicorn is told about the proxies in front of it."""

import runpy
import subprocess
import sys

import pytest
from gunicorn.config import Config
from gunicorn.http.message import _ip_in_allow_list


@pytest.mark.parametrize(
    ("proxies", "peer", "is_believed"),
    [
        ("10.1.2.3/8,fd00::/8", "10.9.9.9", True),
        ("10.1.2.3/8,fd00::/8", "fd00::7", True),
        ("10.1.2.3/8,fd00::/8", "127.0.0.1", False),
        ("", "127.0.0.1", True),
        ("", "10.9.9.9", False),
    ],
)
def test_the_scheme_is_believed_of_the_same_proxies_as_the_address(monkeypatch, proxies, peer, is_believed):
    monkeypatch.setenv("ZIMG_TRUSTED_PROXIES", proxies)
    config = Config()

    config.set("forwarded_allow_ips", runpy.run_module("api.gunicorn_config").get("forwarded_allow_ips", "127.0.0.1"))

    assert _ip_in_allow_list(peer, config.forwarded_allow_ips, config.forwarded_allow_networks()) is is_believed


def test_what_an_api_process_is_made_of_is_looked_through_no_more():
    said = "import gc, api.gunicorn_config as ours; ours.spare_collections(); print(gc.get_freeze_count() > 9999)"

    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "True"

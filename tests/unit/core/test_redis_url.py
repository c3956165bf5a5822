"""A REDIS_URL that can not be read stops the start with a sentence, and no part of its password is in it."""

import os
import subprocess
import sys

import pytest

from core.errors import ConfigurationError
from core.settings import Settings
from tests.fixtures.stack import ROOT

READABLE = [
    "redis://127.0.0.1:6379/0",
    "redis://redis",
    "redis:///1",
    "redis://:0123456789abcdef@redis:6379/0",
    "redis://user:p%2Fa%23s%3Fs%40@redis:6379/0",
    "redis://[::1]:6379/0",
    "rediss://:word@redis.example:6380/0?ssl_ca_certs=/etc/ca.pem",
    "unix:///run/redis.sock?db=1",
    "unix://:word@/run/redis.sock",
    "sentinel://:word@a:26379,b:26379,c/0?master_name=zimg",
    "sentinels://a,b/0?master_name=zimg",
]
#: What `openssl rand -base64` may make of a password, and other slips.
UNREADABLE = [
    "redis://:Kx7/tail@redis:6379/0",
    "redis://:Kx7#tail@redis:6379/0",
    "redis://:Kx7?tail@redis:6379/0",
    "redis://:77/tail@redis:6379/0",
    "redis://user:77?tail==@redis:6379/0",
    "redis://user:77#tail@redis:6379/0",
    "redis://:Kx7@tail@redis:port/0",
    "redis://:Kx7tail@redis:99999/0",
    "redis://:Kx7[tail@redis:6379/0",
    "http://:Kx7tail@redis:6379/0",
    "Kx7tail@redis:6379",
    "sentinel://:Kx7/tail@a:26379,b:26379/0?master_name=zimg",
    "sentinel://:Kx7tail@a:26379,b:word/0?master_name=zimg",
    "redis://:Kx7tail@redis:6379/zero",
]


@pytest.mark.parametrize("url", READABLE)
def test_what_redis_can_be_reached_by_is_taken(url):
    assert Settings.from_env({"REDIS_URL": url}).redis_url == url


@pytest.mark.parametrize("url", UNREADABLE)
def test_what_can_not_be_read_is_refused_and_never_quoted(url):
    with pytest.raises(ConfigurationError) as refused:
        Settings.from_env({"REDIS_URL": url})

    assert "REDIS_URL" in str(refused.value)
    assert not any(part in str(refused.value) for part in ("Kx7", "tail", "77"))
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


@pytest.mark.parametrize("module", ["scheduler", "api"])
def test_a_process_says_it_in_one_sentence(module):
    environ = {**os.environ, "REDIS_URL": "redis://:Kx7/tail@redis:6379/0"}

    done = subprocess.run(
        [sys.executable, "-m", module], cwd=ROOT, env=environ, capture_output=True, text=True, check=False, timeout=90
    )

    assert done.returncode != 0
    assert done.stderr.strip().count("\n") == 0
    assert "letters and digits" in done.stderr
    assert "Kx7" not in done.stderr + done.stdout

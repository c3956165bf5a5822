"""Settings: what stops a start, and with which words."""

import pytest

from core.errors import ConfigurationError
from core.settings import Settings


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ZIMG_CPU_DTYPE", "float16"),
        ("ZIMG_PRESET", "slow"),
        ("ZIMG_CONCURRENCY", "0"),
        ("ZIMG_PORT", "eighty"),
        ("ZIMG_LEASE_SECONDS", "0"),
        ("ZIMG_SIGN_UP", "open"),
        ("ZIMG_TRUSTED_PROXIES", "nginx"),
    ],
)
def test_a_setting_that_can_not_work_stops_the_start_and_is_named(variable, value):
    with pytest.raises(ConfigurationError, match=variable):
        Settings.from_env({variable: value})


def test_an_empty_variable_counts_as_not_set():
    assert Settings.from_env({"ZIMG_PORT": "", "REDIS_URL": ""}) == Settings()

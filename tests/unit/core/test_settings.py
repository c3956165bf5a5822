"""Settings: what stops a start, and with which words."""

import pytest

from core.errors import ConfigurationError
from core.settings import BOUNDS, Settings


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
        ("ZIMG_LOG_LEVEL", "LOUD"),
        ("ZIMG_LEASE_SECONDS", "nan"),
        ("ZIMG_BACKLOG_GIB", "inf"),
        ("ZIMG_PORT", "99999"),
        ("ZIMG_TENANT_QUEUED_JOBS", "-1"),
        ("ZIMG_TENANT_BURST_PER_SECOND", "1e-9"),
        ("ZIMG_TENANT_DAILY_UNITS", "1000000001"),
        *((f"ZIMG_{name}_SECONDS", "0") for name in ("IDEMPOTENCY", "PICTURE_RETENTION", "RECORD_RETENTION")),
        *((f"ZIMG_{name}_SECONDS", "0") for name in ("INTERACTIVE_DEADLINE", "BATCH_DEADLINE", "PROGRESS_STALE")),
    ],
)
def test_a_setting_that_can_not_work_stops_the_start_and_is_named(variable, value):
    with pytest.raises(ConfigurationError, match=variable):
        Settings.from_env({variable: value})


def test_an_empty_variable_counts_as_not_set():
    assert Settings.from_env({"ZIMG_PORT": "", "REDIS_URL": ""}) == Settings()


def test_every_number_among_the_settings_has_bounds_and_its_default_lies_in_them():
    numbers = {
        name
        for name, field in Settings.__dataclass_fields__.items()
        if isinstance(field.default, int | float) and not isinstance(field.default, bool)
    }
    assert set(BOUNDS) == numbers
    Settings()


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("0", "ZIMG_PORT=0: must be 1 or more, and at most 65535"),
        ("70000", "ZIMG_PORT=70000: must be 1 or more, and at most 65535"),
    ],
)
def test_a_refused_number_is_told_with_what_it_may_be(value, told):
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_env({"ZIMG_PORT": value})
    assert str(caught.value) == told


@pytest.mark.parametrize("password", ["ab/cd", "ab#cd", "ab?cd"])
def test_a_password_that_tears_the_address_of_redis_apart_is_told_and_not_quoted(password):
    """Made with `openssl rand -base64`, it ended every process with a traceback that held part of it."""
    with pytest.raises(ConfigurationError, match="REDIS_URL can not be read") as caught:
        Settings.from_env({"REDIS_URL": f"redis://:{password}@redis:6379/0"})
    assert "ab" not in str(caught.value)

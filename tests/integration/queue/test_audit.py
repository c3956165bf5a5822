"""The audit, its corrections, retention and the ledger on a real Valkey and on Debian's Redis, word for word."""

import pytest

from tests.unit.scheduler.test_audit_beside_work import *  # noqa: F403
from tests.unit.scheduler.test_audit_goes_on import *  # noqa: F403
from tests.unit.scheduler.test_auditor import *  # noqa: F403
from tests.unit.scheduler.test_corrections import *  # noqa: F403
from tests.unit.scheduler.test_injected_faults import *  # noqa: F403
from tests.unit.scheduler.test_ledger import *  # noqa: F403
from tests.unit.scheduler.test_trash import *  # noqa: F403


@pytest.fixture
def fake_redis(queue_redis):
    return queue_redis

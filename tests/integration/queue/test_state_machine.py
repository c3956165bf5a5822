"""The whole state machine on a real Valkey and on Debian's Redis: the double's tests, word for word."""

from tests.unit.core.queue.test_blame import *  # noqa: F403
from tests.unit.core.queue.test_cancel import *  # noqa: F403
from tests.unit.core.queue.test_clock import *  # noqa: F403
from tests.unit.core.queue.test_company import *  # noqa: F403
from tests.unit.core.queue.test_crowd import *  # noqa: F403
from tests.unit.core.queue.test_followers import *  # noqa: F403
from tests.unit.core.queue.test_lift import *  # noqa: F403
from tests.unit.core.queue.test_long_lists import *  # noqa: F403
from tests.unit.core.queue.test_look import *  # noqa: F403
from tests.unit.core.queue.test_models import *  # noqa: F403
from tests.unit.core.queue.test_move import *  # noqa: F403
from tests.unit.core.queue.test_odd_ends import *  # noqa: F403
from tests.unit.core.queue.test_order import *  # noqa: F403
from tests.unit.core.queue.test_place import *  # noqa: F403
from tests.unit.core.queue.test_reap import *  # noqa: F403
from tests.unit.core.queue.test_records import *  # noqa: F403
from tests.unit.core.queue.test_release import *  # noqa: F403
from tests.unit.core.queue.test_runs import *  # noqa: F403
from tests.unit.core.queue.test_shelve import *  # noqa: F403
from tests.unit.core.queue.test_submit import *  # noqa: F403
from tests.unit.core.queue.test_takeover import *  # noqa: F403
from tests.unit.core.queue.test_tallies import *  # noqa: F403

"""On the path of processes under libfaketime 0.9: its clock_nanosleep refuses what Python's time.sleep asks of it, once
the monotonic clock is left alone (and waits for events never end if it is not). Waiting for an event sleeps as well."""

import threading
import time

time.sleep = lambda seconds: threading.Event().wait(seconds) and None  # type: ignore[assignment]

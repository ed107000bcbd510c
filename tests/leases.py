"""Holding a run's directory in a test, as a living process would."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llmrl.runs.lease import Lease


@contextmanager
def held(directory: Path) -> Iterator[Lease]:
    lease = Lease(directory)
    lease.acquire()
    try:
        yield lease
    finally:
        lease.release()

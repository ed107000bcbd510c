"""torch's global random generator, for what can draw from nothing else: one thread at a time, and left as it was."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_LOCK = threading.RLock()  # all threads share the generator


@contextmanager
def global_generator(seed: int | None = None) -> Iterator[None]:
    """For what can only draw from torch's global generator, on the CPU: it begins with `seed` inside, is this thread's
    alone among runs side by side, and is left as it was."""
    with _LOCK, torch.random.fork_rng(devices=[]):
        if seed is not None:
            torch.random.default_generator.manual_seed(seed)
        yield

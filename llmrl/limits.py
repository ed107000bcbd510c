"""What this machine can hold: sizes that no memory has are refused, with what they need, before it is asked for."""

import math
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from llmrl.checks import ConfigError

PER_CPU = 16  # threads or processes side by side: more than that is a slip
FACTORIES = {torch.empty, torch.zeros, torch.rand}  # what layers and parameters are made with

TRAINED = 4  # a weight, its gradient, and what Adam keeps of it
BEYOND = ("allocate", "too big", "too large", "overflow", "maximum allowed", "negative dimension")


def memory() -> int:
    """Bytes that this process may have at the most."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        if (path := Path(file)).exists() and (text := path.read_text().strip()).isdigit():
            found.append(int(text))
    if (limit := resource.getrlimit(resource.RLIMIT_AS)[0]) != resource.RLIM_INFINITY:
        found.append(limit)
    return min(found)


def check_parallel(key: str, n: int) -> None:
    """Raises ConfigError where `n` threads or processes are more than this machine can have side by side."""
    cpus = os.cpu_count() or 1
    if n > PER_CPU * cpus:
        raise ConfigError(f"{key}: {n:,} side by side are too many for the {cpus} CPUs of this machine")


def check_fits(what: str, size: int) -> None:
    """Raises ConfigError where `size` bytes are more than there is."""
    if size > memory():
        raise ConfigError(
            f"{what}: {size / 1e9:,.1f} GB of memory are needed, this machine has {memory() / 1e9:,.1f} GB"
        )


@contextmanager
def allocating(what: str) -> Iterator[None]:
    """Raises ConfigError where what is built inside does not fit into the memory, of the machine or of its GPU."""
    try:
        with _Counted(what):
            yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise ConfigError(f"{what}: more memory than there is: {str(error).splitlines()[0]}") from error
    except (RuntimeError, ValueError, OverflowError) as error:  # torch's and numpy's, of sizes beyond all memory
        if not any(word in str(error).lower() for word in BEYOND):
            raise
        raise ConfigError(f"{what}: more memory than there is: {str(error).splitlines()[0]}") from error


class _Counted(TorchFunctionMode):
    """Adds up what torch is asked for, so that it is refused before pages are touched."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what, self.bytes = what, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in FACTORIES:
            shape = kwargs.get("size", args)
            self.bytes += 4 * math.prod(shape[0] if shape and not isinstance(shape[0], int) else shape)
            check_fits(self.what, TRAINED * self.bytes)
        return func(*args, **kwargs)

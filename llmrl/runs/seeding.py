"""Named random streams: who draws asks for a stream by name, so the order of asking changes nothing."""

from zlib import crc32

import numpy as np


def sequence(seed: int, *name: str | int) -> np.random.SeedSequence:
    """The SeedSequence of a stream, such as sequence(3, "env", 17). Never spawned from: spawning depends on order."""
    return np.random.SeedSequence(seed, spawn_key=[crc32(str(part).encode()) for part in name])


def integer(seed: int, *name: str | int) -> int:
    """A 31-bit seed for whoever takes an integer, such as an environment's reset."""
    return int(sequence(seed, *name).generate_state(1, np.uint32)[0] >> 1)


def generator(seed: int, *name: str | int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(sequence(seed, *name)))


def torch_generator(seed: int, *name: str | int):
    """A torch generator on the CPU, so that its state means the same wherever a checkpoint is loaded."""
    import torch

    return torch.Generator().manual_seed(integer(seed, *name))

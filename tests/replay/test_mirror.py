"""Batches gathered on the agent's device are those that are gathered on the host. The device is the CPU here."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from plain_crops import crop_space, crop_steps
from small_agents import box, random_steps, vectors
from test_replay import PIXELS, play, sampling
from torch.utils._pytree import tree_leaves

from llmrl.replay import crops, frames, uniform
from llmrl.replay.crops import CropReplay
from llmrl.replay.frames import FrameReplay
from llmrl.replay.mirror import Mirror
from llmrl.replay.ring import Ring
from llmrl.replay.uniform import UniformReplay

AGENT = SimpleNamespace(device=torch.device("cpu"))
ARMS, FORCE = spaces.Discrete(3), box([-1], [1])


def test_rows_are_the_rings_however_they_came():
    rng = np.random.default_rng(0)
    rings = [Ring(x=np.zeros((7, 2), np.float32)) for _ in range(3)]
    mirror = Mirror(rings, "x", torch.device("cpu"))
    for n in (3, 0, 2, 9, 7, 1, 20, 6):  # more than a ring holds, and none
        for ring in rings:
            for _ in range(n):
                ring.columns["x"][ring.advance(1)] = rng.standard_normal((1, 2))
        place = rng.integers(21, size=(4, 5))
        expected = np.concatenate([ring.columns["x"] for ring in rings])
        known = np.concatenate([np.arange(7) < ring.total for ring in rings])[place]
        np.testing.assert_array_equal(mirror.take(place)[torch.from_numpy(known)], expected[place][known])
    rows = rng.standard_normal((5, 2)).astype(np.float32)
    rings[1].load(0, {"x": rows})  # a checkpoint, also one with fewer rows
    np.testing.assert_array_equal(mirror.take(np.arange(7, 12)), rows)


def buffers(kind):
    """Two of the kind, and the steps that fill them."""
    rng = np.random.default_rng(1)
    if kind == "vectors":
        space = spaces.Dict({"b": vectors(2), "a": vectors(3)})
        make = lambda: UniformReplay(space, FORCE, capacity=30, sampling=sampling())  # noqa: E731
        return make(), make(), random_steps(space, FORCE, 80, rng)
    if kind == "frames":
        make = lambda: FrameReplay(PIXELS, ARMS, capacity=60, n_envs=2, sampling=sampling())  # noqa: E731
        return make(), make(), play(80, 2, rng)
    make = lambda: CropReplay(crop_space(), FORCE, capacity=30, n_envs=1, sampling=sampling())  # noqa: E731
    return make(), make(), crop_steps(crop_space(), FORCE, 40, rng)


@pytest.mark.parametrize("kind", ["vectors", "frames", "crops"])
def test_batches_are_the_same(kind, monkeypatch):
    host, device, steps = buffers(kind)
    for i, step in enumerate(steps):
        host.add(step)
        device.add(step)
        if i % 7 == 3:
            here = next(host.batches(1, np.random.default_rng(i), AGENT))
            with monkeypatch.context() as patch:
                for module in (uniform, frames, crops):
                    patch.setattr(module, "wanted", lambda device: True)
                there = next(device.batches(1, np.random.default_rng(i), AGENT))
            mine, its = tree_leaves(here), tree_leaves(there)
            assert len(mine) == len(its) > 4
            for one, other in zip(mine, its):
                assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other
    assert any(part for name, part in vars(device).items() if name.startswith("mirror"))

"""Agents, batches and steps of small sizes, for the tests of the agents and their replay buffers."""

import importlib

import numpy as np
import torch
import yaml
from gymnasium import spaces
from pydantic import ConfigDict, TypeAdapter

from llmrl.conf_files import conf_root
from llmrl.config import agent_of
from llmrl.contracts.replay import Batch, Step


def config(name, **changes):
    """The agent's own yaml with some values changed."""
    values = yaml.safe_load((conf_root() / "agent" / f"{name}.yaml").read_text()) | changes
    return TypeAdapter(strict(importlib.import_module(f"llmrl.agents.{name}").Config)).validate_python(values)


def strict(cls):
    """As a run has it, whichever test comes first: a key that the agent does not have is refused."""
    cls.__pydantic_config__ = ConfigDict(extra="forbid")
    return cls


def make(name, observation_space, action_space, *, env_steps=1000, seed=0, device="cpu", **changes):
    cls = agent_of(name)
    gen = torch.Generator().manual_seed(seed)
    settings = config(name, **changes)
    return cls(settings, observation_space, action_space, env_steps=env_steps, device=device, gen=gen)


def vectors(n):
    return spaces.Box(-np.inf, np.inf, (n,), np.float32)


def box(low, high):
    return spaces.Box(np.array(low, np.float32), np.array(high, np.float32))


FRAMES = spaces.Box(0, 255, (4, 36, 36), np.uint8)


def some_obs(space, n, rng):
    if isinstance(space, spaces.Dict):
        return {key: some_obs(part, n, rng) for key, part in space.items()}
    if space.dtype == np.uint8:
        return rng.integers(256, size=(n, *space.shape), dtype=np.uint8)
    return rng.standard_normal((n, *space.shape)).astype(np.float32)


def some_actions(space, n, rng):
    if isinstance(space, spaces.Discrete):
        return rng.integers(space.n, size=n)
    return rng.uniform(space.low, space.high, (n, *space.shape)).astype(np.float32)


def random_batch(observation_space, action_space, n, seed):
    rng = np.random.default_rng(seed)

    def tensors(obs):
        return {k: tensors(v) for k, v in obs.items()} if isinstance(obs, dict) else torch.from_numpy(obs)

    return Batch(
        obs=tensors(some_obs(observation_space, n, rng)),
        action=torch.from_numpy(some_actions(action_space, n, rng)),
        reward=torch.from_numpy(rng.standard_normal(n).astype(np.float32)),
        next_obs=tensors(some_obs(observation_space, n, rng)),
        terminated=torch.from_numpy((rng.random(n) < 0.3).astype(np.float32)),
        discount=0.99,
    )


def random_steps(observation_space, action_space, n, rng, n_envs=1):
    """Steps of vector observations, of which one in ten ends an episode."""
    obs = some_obs(observation_space, n_envs, rng)
    for _ in range(n):
        next_obs = some_obs(observation_space, n_envs, rng)
        reward = rng.standard_normal(n_envs).astype(np.float32)
        terminated = rng.random(n_envs) < 0.1
        yield Step(obs, some_actions(action_space, n_envs, rng), reward, next_obs, terminated, terminated)
        obs = next_obs

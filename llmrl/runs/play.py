"""How an environment is reset and stepped, by whoever plays episodes.

An environment may return one buffer that it changes at every step, and change the action that it is given in place. So
it gets a copy of the action, and what it returns is copied before anyone keeps it.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np


def reset(env: gym.Env, **how: Any) -> tuple[Any, dict]:
    """`env.reset(**how)`; observation and info are the caller's own."""
    return copied(env.reset(**how))


def step(env: gym.Env, action: Any) -> tuple[Any, Any, bool, bool, dict]:
    """`env.step(action)`; what it returns is the caller's own, and `action` stays as it is."""
    return copied(env.step(copied(action)))


def step_all(envs: Sequence[gym.Env], actions: Iterable[Any]) -> list[tuple[Any, Any, bool, bool, dict]]:
    """`step` of each; those in processes of their own (loops/env_process.py) step side by side."""
    pairs = list(zip(envs, actions))
    for env, action in pairs:
        if begin := getattr(env, "begin_step", None):
            begin(action)
    return [copied(env.end_step()) if hasattr(env, "end_step") else step(env, action) for env, action in pairs]


def copied(value: Any) -> Any:
    """The same with a copy of every array in it, also inside of dicts, tuples and lists. Other objects are not copied:
    infos may hold some that cannot be."""
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, dict):
        return {key: copied(part) for key, part in value.items()}
    if type(value) in (tuple, list):
        return type(value)(map(copied, value))
    return value

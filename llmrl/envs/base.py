"""What all suites share: the helpers that make an environment. Their contract is llmrl/contracts/env.py."""

import warnings
from importlib import import_module
from types import ModuleType

import gymnasium as gym
import numpy as np

from llmrl.checks import ConfigError


def require(module: str, package: str, purpose: str) -> ModuleType:
    """Import `module`. Raises ConfigError, naming the `package` to install for `purpose`, where it cannot be found."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigError(f"{purpose} needs {package}, which is not installed: pip install {package!r}") from error


def make_gymnasium(env_id: str, *, max_episode_steps: int, render: bool, **options: bool | str) -> gym.Env:
    """A registered environment, truncated after `max_episode_steps`; `render`: as rgb arrays; `options`: what
    it takes itself.

    Gymnasium's warning that a version is out of date is silenced: versions are chosen on purpose here.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return gym.make(
            env_id,
            max_episode_steps=max_episode_steps,
            render_mode="rgb_array" if render else None,
            disable_env_checker=True,  # it checks every step; tests/envs/test_envs.py does it once
            **options,
        )


def check_spaces(env: gym.Env, name: str) -> None:
    """Raises ConfigError, naming the environment, where its spaces are none that an agent here can see or act in."""
    seen, acts = env.observation_space, env.action_space
    parts = list(seen.spaces.values()) if isinstance(seen, gym.spaces.Dict) else [seen]
    if not parts or not all(isinstance(part, gym.spaces.Box) and _sized(part) for part in parts):
        raise ConfigError(
            f"{name}: observations must be a Box, or a Dict of Boxes, of at least one dimension and one number, whose "
            f"bounds are numbers; this task has {seen}: wrap the environment"
        )
    discrete = isinstance(acts, gym.spaces.Discrete) and acts.start == 0
    if not discrete and not (isinstance(acts, gym.spaces.Box) and _sized(acts) and acts.is_bounded()):
        raise ConfigError(
            f"{name}: actions must be 0, …, n-1 or a bounded Box of at least one dimension and one number; this task "
            f"has {acts}: wrap the environment"
        )


def _sized(space: gym.spaces.Box) -> bool:
    return space.shape != () and 0 not in space.shape and not (np.isnan(space.low) | np.isnan(space.high)).any()

"""MuJoCo locomotion: gymnasium's robots, versions 4 and 5."""

import os
import sys
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import gymnasium as gym
import numpy as np

from llmrl.checks import ConfigError, Count, Whole
from llmrl.contracts.env import Role, Task
from llmrl.envs.base import make_gymnasium, require


@dataclass(frozen=True)
class Config:
    suite: str
    robot: str
    version: Annotated[Literal[4, 5], Whole]
    max_episode_steps: Count
    observe: Literal["all", "joints"] = field(metadata={"neutral": "all"})
    task: Task

    @property
    def frames_per_step(self) -> int:
        return 1


def make(config: Config, role: Role, *, render: bool = False) -> gym.Env:
    """Training and evaluation are alike. Raises ConfigError where MuJoCo is missing or it cannot render."""
    for module in ("mujoco", "imageio"):  # gymnasium imports imageio for every robot, drawn or not
        require(module, "gymnasium[mujoco]", "MuJoCo")
    if render:
        choose_renderer()
    follow = {"camera_name": "track"} if render else {}  # the default one stays behind while the robot runs away
    try:
        env = make_gymnasium(
            f"{config.robot}-v{config.version}", max_episode_steps=config.max_episode_steps, render=render, **follow
        )
    except gym.error.UnregisteredEnv as error:
        raise ConfigError(f"env.robot: gymnasium has no {config.robot}-v{config.version}") from error
    if config.observe == "joints":
        env = _without_extras(env)
    if render:
        try_to_draw(env)
    return env


def _without_extras(env: gym.Env) -> gym.Env:
    """Positions and velocities alone. They come first, and only robots with a free root (whose orientation takes one
    number more than its rotation) observe more than these: forces, inertias."""
    unwrapped: Any = env.unwrapped
    model = unwrapped.model
    if model.nq == model.nv:
        return env
    size = model.nq + model.nv - 2  # x and y of the root are not observed
    space = gym.spaces.Box(-np.inf, np.inf, (size,), np.float64)
    return gym.wrappers.TransformObservation(env, lambda obs: obs[:size], space)


def choose_renderer() -> None:
    """Without a display, EGL draws; MUJOCO_GL says otherwise."""
    if sys.platform == "linux" and not os.environ.get("DISPLAY"):
        os.environ.setdefault("MUJOCO_GL", "egl")


def try_to_draw(env: gym.Env) -> None:
    """Draw once, so that what is missing shows now and not after hours of training."""
    try:
        env.reset(seed=0)
        env.render()
    except Exception as error:  # PyOpenGL, EGL, GLFW and MuJoCo all have their own
        raise cannot_draw(error) from error


def cannot_draw(error: Exception) -> ConfigError:
    """What to say, and to do, where it cannot render."""
    return ConfigError(
        f"MuJoCo cannot draw with MUJOCO_GL={os.environ.get('MUJOCO_GL', '(unset)')}: {error}\n"
        "Install what it needs: make setup-render (Debian: apt install libegl1 libgl1-mesa-dri libosmesa6), "
        "and set MUJOCO_GL to egl or osmesa."
    )

"""The contract of whatever learns, and of an agent, which also acts; and what all our agents begin with."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Generator, Tensor

from llmrl.checks import ConfigError
from llmrl.explore.base import Explorer
from llmrl.replay.base import Batch, Memory


class Learner(Protocol):
    """An update is a function of (own state, batch). The generator and the counters are part of the state."""

    def update(self, batch: Batch) -> Mapping[str, Tensor]:
        """One gradient update. Returns metrics as detached tensors (no synchronisation), read only when logged."""

    def state_dict(self) -> dict: ...

    def load_state_dict(self, state: dict) -> None: ...


class Agent(Learner, Protocol):
    """The maths of one algorithm. Knows no environment, no logger and no configuration but its own.

    Built as `Class(config, observation_space, action_space, env_steps=…, device=…, gen=…)`: the spaces are those of
    one environment, `env_steps` is the budget (schedules need it), and `gen` is the torch generator that initialises
    the networks and afterwards draws all random numbers of `update`. Raises ConfigError where the spaces do not fit.
    """

    actions: ClassVar[Literal["discrete", "continuous", "both"]]  # what it can act in; for error messages and `list`
    clips_actions: ClassVar[bool]  # whether its continuous actions may lie outside their box: see `executed`
    action_space: spaces.Space

    def act(self, obs: Any, *, explore: bool, gen: Generator) -> NDArray:
        """(n_envs, *obs) array or dict of arrays -> (n_envs, *action) in environment units. Changes no state of
        the agent, so that an evaluation cannot disturb training; `gen` is used by stochastic policies only."""

    def memory(self) -> Memory:
        """A new memory of the kind that this algorithm wants."""

    def explorer(self) -> Explorer:
        """A new explorer of the kind that this algorithm explores with when nothing wraps it."""


class BaseAgent:
    """The constructor's common part: checks that the agent can act here, and keeps what it was built with."""

    actions: ClassVar[Literal["discrete", "continuous", "both"]]
    clips_actions: ClassVar[bool] = False

    def __init__(
        self,
        config: Any,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        *,
        env_steps: int,
        device: torch.device | str,
        gen: Generator,
    ) -> None:
        self.config, self.env_steps, self.gen, self.device = config, env_steps, gen, torch.device(device)
        self.observation_space, self.action_space = observation_space, action_space
        self.updates = 0
        self._check_actions()

    def _check_actions(self) -> None:
        name, space = type(self).__name__, self.action_space
        discrete = isinstance(space, spaces.Discrete) and space.start == 0
        continuous = isinstance(space, spaces.Box)
        if self.actions == "discrete" and not discrete:
            raise ConfigError(f"{name} needs actions 0, 1, …, n-1, this task has {space}: use agent=td3 or ddpg")
        if self.actions == "continuous" and not continuous:
            raise ConfigError(f"{name} needs continuous actions, this task has {space}: use agent=dqn")
        if not discrete and not continuous:
            raise ConfigError(f"{name} needs actions 0, …, n-1 or a Box, this task has {space}: wrap the environment")
        if continuous and not self.clips_actions and not space.is_bounded():
            raise ConfigError(f"{name} needs bounded actions, this task has {space}: rescale them in a wrapper")


def executed(agent: Agent, actions: NDArray) -> NDArray:
    """(n, *action) -> what an environment gets of it: clipped to the box where the agent's policy knows no bounds.

    What is learnt from stays unclipped, since that is what log pi(a | s) is of.
    """
    if not agent.clips_actions or not isinstance(agent.action_space, spaces.Box):
        return actions
    return np.clip(actions, agent.action_space.low, agent.action_space.high)

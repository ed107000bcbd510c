"""The Agent contract: the maths of one algorithm; and that of whatever learns without acting.

An agent is a module llmrl/agents/<name>.py that holds a frozen dataclass `Config`, which checks conf/agent/<name>.yaml,
and exports its class as `AGENT`. Its keys are its own; of these others read `n_envs` (environments stepped side by
side, else 1), `gamma` (for wrappers, else 1) and `context` (the history that it sees, else none).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Generator, Tensor

from llmrl.checks import ConfigError
from llmrl.contracts.explorer import Explorer
from llmrl.contracts.replay import Batch, ReplayBuffer


class Learner(ABC):
    """An update is a function of (own state, batch). The generator and the counters are part of the state."""

    @abstractmethod
    def update(self, batch: Batch) -> Mapping[str, Tensor]:
        """One gradient update. Returns metrics as detached tensors (no synchronisation), read only when logged."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """All that an update or an action depends on: networks, targets, optimizers, generator, counters."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts back what `state_dict` returned."""


class Agent(Learner):
    """The maths of one algorithm. Knows no environment, no logger and no configuration but its own."""

    actions: ClassVar[Literal["discrete", "continuous", "both"]]  # what it can act in; for error messages and `list`
    clips_actions: ClassVar[bool] = False  # whether its continuous actions may lie outside their box: see `executed`
    learns_from: ClassVar[Literal["acting", "dataset"]] = "acting"

    config: Any  # an algorithm narrows these three to its own Config and to the spaces that it accepts
    observation_space: spaces.Space
    action_space: spaces.Space

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
        """For the spaces of one environment. Raises ConfigError where they do not fit.

        Args:
            config: the module's Config.
            env_steps: the budget, which schedules need.
            gen: initialises the networks, and afterwards draws all random numbers of `update`.
        """
        self.config, self.env_steps, self.gen, self.device = config, env_steps, gen, torch.device(device)
        self.observation_space, self.action_space = observation_space, action_space
        self.updates = 0
        self._check_actions()

    @abstractmethod
    def act(self, obs: Any, *, explore: bool, gen: Generator) -> NDArray:
        """(n_envs, *obs) array or dict of arrays -> (n_envs, *action) in environment units. Changes no state of
        the agent, so that an evaluation cannot disturb training; `gen` is used by stochastic policies only."""

    def capture(self) -> None:
        """Makes updates CUDA graphs from now on (compute.graphs), where an algorithm's can be."""
        return None

    @classmethod
    def can_stack(cls, config: Any, observation_space: spaces.Space) -> bool:
        """Whether updates of several seeds of such an agent can be made as one (compute.stack)."""
        return False

    def replay_buffer(self) -> ReplayBuffer:
        """A new replay buffer of this algorithm's kind. Raises ConfigError where it learns from a dataset."""
        raise ConfigError(f"{type(self).__name__} learns from a dataset, not by acting: use method=offline or kalm")

    def explorer(self) -> Explorer:
        """A new explorer of the kind that this algorithm explores with when nothing wraps it. Raises ConfigError where
        it learns from a dataset."""
        raise ConfigError(f"{type(self).__name__} learns from a dataset, not by acting: use method=offline or kalm")

    def source(self, *datasets: Any) -> Any:
        """Where the batches of offline training come from: one dataset (replay/dataset.Transitions), or of every batch
        an equal share from each of several. Raises ConfigError where it learns by acting."""
        raise ConfigError(
            f"{type(self).__name__} learns by acting, not from a dataset: use bc, cql, bcq or decision_transformer"
        )

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
        if isinstance(space, spaces.Box) and not self.clips_actions and not space.is_bounded():
            raise ConfigError(f"{name} needs bounded actions, this task has {space}: rescale them in a wrapper")


def executed(agent: Agent, actions: NDArray) -> NDArray:
    """(n, *action) -> what an environment gets of it: clipped to the box where the agent's policy knows no bounds.

    What is learnt from stays unclipped, since that is what log pi(a | s) is of.
    """
    if not agent.clips_actions or not isinstance(agent.action_space, spaces.Box):
        return actions
    return np.clip(actions, agent.action_space.low, agent.action_space.high)

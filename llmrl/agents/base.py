"""The contract of whatever learns, and of an agent, which also acts."""

from collections.abc import Mapping
from typing import Any, Literal, Protocol

from numpy.typing import NDArray
from torch import Generator, Tensor

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

    actions: Literal["discrete", "continuous"]  # what it can act in; a class attribute, for error messages and `list`

    def act(self, obs: Any, *, explore: bool, gen: Generator) -> NDArray:
        """(n_envs, *obs) array or dict of arrays -> (n_envs, *action) in environment units. Changes no state of
        the agent, so that an evaluation cannot disturb training; `gen` is used by stochastic policies only."""

    def memory(self) -> Memory:
        """A new memory of the kind that this algorithm wants."""

    def explorer(self) -> Explorer:
        """A new explorer of the kind that this algorithm explores with when nothing wraps it."""

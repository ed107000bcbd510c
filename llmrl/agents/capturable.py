"""Agents whose update is a function of tensors alone: it can be a CUDA graph, and that of several seeds at once."""

import copy
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import gymnasium as gym
import torch
from torch import Tensor

from llmrl.agents.cuda_graphs import CUDAGraphs, Learn
from llmrl.agents.nets import flatten
from llmrl.agents.perceptrons import FusedAdam, Perceptrons
from llmrl.contracts.agent import Agent
from llmrl.contracts.replay import Batch


class Capturable(Agent):
    """An update is `learn`, which works on the device alone, on what `noise` has drawn before."""

    _captured: Learn | None = None

    def update(self, batch: Batch) -> Mapping[str, Tensor]:
        self.updates += 1
        noise = self.on_device(self.noise(len(batch.reward)))
        return (self._captured or self.learn)(batch, noise, due=self.due())

    @abstractmethod
    def learn(self, batch: Batch, noise: Any, *, due: bool) -> Mapping[str, Tensor]:
        """One update. Reads no value back from the device, and draws nothing.

        Args:
            noise: what `noise` drew.
            due: what `due` says.
        """

    def noise(self, n: int) -> Any:
        """What an update on n rows draws, tensors in tuples. From the agent's generator, on the CPU, so that one
        checkpoint serves every device."""
        return ()

    def due(self) -> bool:
        """Whether the `updates`-th update does what only some of them do."""
        return False

    def on_device(self, noise: Any) -> Any:
        return noise if self.device.type == "cpu" else each(lambda x: x.to(self.device, non_blocking=True), noise)

    @property
    def captured(self) -> bool:
        return self._captured is not None

    def capture(self) -> None:
        self._captured = CUDAGraphs(self.learn)


class Stackable(Capturable):
    """One whose `learn_together` is that of several seeds: its tensors have a first dimension of seeds."""

    def learn(self, batch: Batch, noise: Any, *, due: bool) -> Mapping[str, Tensor]:
        with torch.no_grad():
            out = self.learn_together(side_by_side([batch], self.features), each(_one, noise), due=due)
        return {name: value[0] for name, value in out.items()}

    @abstractmethod
    def learn_together(self, batch: Batch, noise: Any, *, due: bool) -> Mapping[str, Tensor]:
        """One update of every seed.

        Args:
            batch: leaves are (seeds, batch, …); observations are as `features` makes them.
            noise: leaves are (seeds, …).

        Returns:
            Metrics, (seeds,) each.
        """

    @classmethod
    def can_stack(cls, config: Any, observation_space: gym.Space) -> bool:
        """Whether `learn_together` is all of the update, for any number of seeds."""
        return cls.learn is Stackable.learn and cls.update is Capturable.update

    @property
    def stackable(self) -> bool:
        return self.can_stack(self.config, self.observation_space)

    def features(self, obs: Any) -> Any:
        """What the networks see of (batch, *obs)."""
        return flatten(obs)

    @classmethod
    def stacked(cls, agents: Sequence[Self]) -> Self:
        """One that learns for all of them, which must have made as many updates: their networks and optimizers become
        views of its own."""
        whole = copy.copy(agents[0])
        for name, part in vars(whole).items():
            if isinstance(part, Perceptrons | FusedAdam):
                setattr(whole, name, type(part).joined([getattr(agent, name) for agent in agents]))
        return whole


def each(f: Callable[..., Tensor], *noises: Any) -> Any:
    """f of tensors at the same place in noises of one form."""
    return f(*noises) if isinstance(noises[0], Tensor) else tuple(each(f, *parts) for parts in zip(*noises))


def _one(x: Tensor) -> Tensor:
    return x[None]


def side_by_side(batches: Sequence[Batch], features: Callable[[Any], Any]) -> Batch:
    """The batches of several seeds as one, (seeds, batch, …)."""

    def joined(leaves: list[Any]) -> Any:
        if not isinstance(leaves[0], Tensor):
            return leaves[0]  # one number for all rows
        return leaves[0][None] if len(leaves) == 1 else torch.stack(leaves)

    return Batch(
        obs=joined([features(b.obs) for b in batches]),
        action=joined([b.action for b in batches]),
        reward=joined([b.reward for b in batches]),
        next_obs=joined([features(b.next_obs) for b in batches]),
        terminated=joined([b.terminated for b in batches]),
        discount=joined([b.discount for b in batches]),
    )

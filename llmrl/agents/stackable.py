"""Agents whose update is a function of tensors alone, so that several seeds can learn as one."""

import copy
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from llmrl.agents.nets import flatten
from llmrl.agents.perceptrons import FusedAdam, Perceptrons
from llmrl.contracts.agent import Agent
from llmrl.contracts.replay import Batch


class Stackable(Agent):
    """Tensors of `learn` have a first dimension of seeds, of length 1 where an agent learns alone."""

    def update(self, batch: Batch) -> Mapping[str, Tensor]:
        self.updates += 1
        noise = self.noise(len(batch.reward)).to(self.device, non_blocking=True)
        with torch.no_grad():
            out = self.learn(side_by_side([batch], self.features), noise[None], due=self.due())
        return {name: value[0] for name, value in out.items()}

    @property
    def stackable(self) -> bool:
        """Whether `learn` is all of its update, for any number of seeds."""
        return type(self).update is Stackable.update

    @abstractmethod
    def learn(self, batch: Batch, noise: Tensor, *, due: bool) -> Mapping[str, Tensor]:
        """One update of every seed. Works on the device alone, so that it can be captured as a CUDA graph.

        Args:
            batch: leaves are (seeds, batch, …); observations are as `features` makes them.
            noise: (seeds, …), what `noise` drew for each.
            due: what `due` says.

        Returns:
            Metrics, (seeds,) each.
        """

    def features(self, obs: Any) -> Any:
        """What the networks see of (batch, *obs)."""
        return flatten(obs)

    def noise(self, n: int) -> Tensor:
        """What an update on n rows draws. From the agent's generator on the CPU: one checkpoint serves every device."""
        return torch.empty(0)

    def due(self) -> bool:
        """Whether the `updates`-th update does what only some of them do."""
        return False

    @classmethod
    def stacked(cls, agents: Sequence[Self]) -> Self:
        """One that learns for all of them, which must have made as many updates: their networks and optimizers become
        views of its own."""
        whole = copy.copy(agents[0])
        for name, part in vars(whole).items():
            if isinstance(part, Perceptrons | FusedAdam):
                setattr(whole, name, type(part).joined([getattr(agent, name) for agent in agents]))
        return whole


def side_by_side(batches: Sequence[Batch], features: Any) -> Batch:
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

"""Uniform experience replay (Lin 1992) for vector observations, also dicts of them."""

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from llmrl.contracts.explorer import Clock
from llmrl.contracts.replay import Batch, OneStepRows, Step
from llmrl.replay.mirror import Mirror, wanted
from llmrl.replay.ring import Ring, Sampling

if TYPE_CHECKING:
    from torch import Tensor

    from llmrl.contracts.agent import Agent


class UniformReplay(OneStepRows):
    """A transition is one float32 row (obs | action | reward | terminated | next_obs), so a batch is ONE gather and
    everything in it a view. Discrete actions are exact in float32 and become int64 again in the batch."""

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        *,
        capacity: int,
        sampling: Sampling,
        n_envs: int = 1,
    ) -> None:
        """`n_envs` matters to `newest` and `following` alone: rows of all environments take turns."""
        self.sampling, self.places, self.n_envs = sampling, capacity, n_envs
        self.discrete = isinstance(action_space, spaces.Discrete)
        self.action_shape = action_space.shape or ()
        shapes: dict[str | None, tuple[int, ...]] = {None: observation_space.shape or ()}
        if isinstance(observation_space, spaces.Dict):
            shapes = {key: observation_space[key].shape or () for key in sorted(observation_space)}
        sizes = [math.prod(shape) for shape in shapes.values()]
        stops = np.cumsum(sizes).tolist()
        # (key, shape, columns) of every part of an observation; the key is None where it is a plain array
        self.parts = [(key, s, slice(stop - n, stop)) for (key, s), n, stop in zip(shapes.items(), sizes, stops)]
        self.is_vector = None in shapes and len(shapes[None]) == 1
        self.obs_size = stops[-1]
        self.after_action = self.obs_size + math.prod(self.action_shape)
        width = self.after_action + 2 + self.obs_size
        self.ring = Ring(row=np.zeros((capacity, width), np.float32))
        self.rewards = self.ring.columns["row"][:, self.after_action]
        self.mirror: Mirror | None = None

    def add(self, step: Step) -> None:
        n, a = len(step.reward), self.after_action
        matrix, at = self.ring.columns["row"], self.ring.advance(n)
        for key, _, columns in self.parts:
            obs, next_obs = (step.obs, step.next_obs) if key is None else (step.obs[key], step.next_obs[key])
            matrix[at, columns] = obs.reshape(n, -1)
            matrix[at, a + 2 + columns.start : a + 2 + columns.stop] = next_obs.reshape(n, -1)
        matrix[at, self.obs_size : a] = step.action.reshape(n, -1)
        matrix[at, a] = step.reward
        matrix[at, a + 1] = step.terminated

    def num_updates(self, clock: Clock) -> int:
        return self.sampling.num_updates(clock)

    def batches(self, n: int, rng: np.random.Generator, agent: "Agent") -> Iterator[Batch]:
        for place in self.draw(n, rng):
            yield self.batch(place, agent)

    def draw(self, n: int, rng: np.random.Generator) -> Iterator[NDArray]:
        yield from self.sampling.draw(n, rng, min(self.ring.total, self.places))

    def newest(self) -> NDArray:
        return np.arange(self.ring.total - self.n_envs, self.ring.total) % self.places

    def evicted(self) -> NDArray:
        return np.empty(0, np.int64)

    def following(self, place: NDArray, n: int) -> NDArray:
        return (place[:, None] + self.n_envs * np.arange(n)) % self.places

    def batch(self, place: NDArray, agent: "Agent", final: NDArray | None = None) -> Batch:
        import torch

        if self.mirror is None and wanted(agent.device):
            self.mirror = Mirror([self.ring], "row", agent.device)

        def rows(at: NDArray) -> "Tensor":
            if self.mirror is not None:
                return self.mirror.take(at)
            return torch.from_numpy(self.ring.columns["row"].take(at, axis=0))

        first = rows(place)
        end = first if final is None else rows(final)
        o, a = self.obs_size, self.after_action
        action = first[:, o:a]
        return Batch(
            obs=self._observation(first[:, :o]),
            action=action.reshape(-1).long() if self.discrete else action.reshape(-1, *self.action_shape),
            reward=first[:, a],
            next_obs=self._observation(end[:, a + 2 :]),
            terminated=end[:, a + 1],
            discount=self.sampling.discount,
        )

    def _observation(self, columns: "Tensor") -> Any:
        """(batch, obs_size) -> views in the shape of the observation space."""
        if self.is_vector:
            return columns
        parts = {key: columns[:, part].reshape(-1, *shape) for key, shape, part in self.parts}
        return parts.get(None, parts)

    def after(self, batch: Batch, out: Mapping[str, "Tensor"]) -> None:
        """Nothing to take back."""

    def rings(self) -> dict[str, Ring]:
        return {"steps": self.ring}

    def state_dict(self) -> dict:
        return {}

    def load_state_dict(self, state: dict) -> None:
        """All there is lies in the rows."""

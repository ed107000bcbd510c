"""Uniform experience replay for observations that hold crops of images, of which few change in a step (ExploRLLM)."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from llmrl.checks import ConfigError
from llmrl.contracts.explorer import Clock
from llmrl.contracts.replay import Batch, ReplayBuffer, Step
from llmrl.replay.mirror import Mirror, wanted
from llmrl.replay.ring import Ring, Sampling
from llmrl.replay.uniform import UniformReplay

if TYPE_CHECKING:
    from torch import Tensor

    from llmrl.contracts.agent import Agent

IMAGE = ("rgb", "height")  # uint8 and float16, stored as they are; all else of an observation is a vector
EPISODE = 3  # steps: an episode brings its first crops and one more a step, and crops have room for such short ones
OLD = 4  # a crop that has not changed for a quarter of the ring is stored again, before it would be overwritten


class CropReplay(ReplayBuffer):
    """Each distinct crop is stored once, and a transition knows the numbers of its crops.

    Observations are dicts of vectors, of "rgb" (crops, height, width, 3) and of "height" (crops, height, width); one
    image of the whole scene has no first axis, and counts as one crop. A crop is new if it differs in any byte from
    its environment's last one at the same index. Where episodes are shorter than EPISODE steps on average, crops run
    out first, and fewer than `capacity` steps are stored.
    """

    def __init__(
        self,
        observation_space: spaces.Dict,
        action_space: spaces.Space,
        *,
        capacity: int,
        n_envs: int,
        sampling: Sampling,
    ) -> None:
        self.sampling, self.places = sampling, capacity
        vectors = spaces.Dict({key: part for key, part in observation_space.items() if key not in IMAGE})
        self.vectors = UniformReplay(vectors, action_space, capacity=capacity, sampling=sampling)
        self.shapes = {key: observation_space[key].shape or () for key in IMAGE}
        dtypes = [observation_space[key].dtype for key in IMAGE]
        if dtypes != [np.uint8, np.float16]:
            raise ConfigError(f"crops are stored as rgb uint8 and height float16, this task has {dtypes}: convert them")
        *several, height, width = self.shapes["height"]
        self.n_crops = int(np.prod(several))
        room = capacity * (self.n_crops + EPISODE) // EPISODE
        room += 2 * OLD * n_envs * self.n_crops  # so that what a step brings never overwrites what it needs
        self.crops = Ring(
            rgb=np.zeros((room, height, width, 3), np.uint8), height=np.zeros((room, height, width), np.float16)
        )
        self.numbers = Ring(
            obs=np.zeros((capacity, self.n_crops), np.int64),
            next_obs=np.zeros((capacity, self.n_crops), np.int64),
            oldest=np.zeros(capacity, np.int64),  # no step from this one on needs a crop before this number
        )
        self.current = np.full((n_envs, self.n_crops), -room)  # numbers of the newest crops; at first, none
        self.mirrors: dict[str, Mirror] = {}
        self.first = 0  # number of the oldest step whose crops are all there

    def add(self, step: Step) -> None:
        self.vectors.add(step._replace(obs=without_image(step.obs), next_obs=without_image(step.next_obs)))
        obs, next_obs = self._store(step.obs), self._store(step.next_obs)
        at, columns = self.numbers.advance(len(obs)), self.numbers.columns
        columns["obs"][at], columns["next_obs"][at], columns["oldest"][at] = obs, next_obs, obs.min()

    def _store(self, obs: Mapping[str, NDArray]) -> NDArray:
        """(n_envs, crops) numbers of the crops in obs, of which those that are new or old have been stored."""
        ring, n_envs = self.crops, len(self.current)
        place = self.current % ring.capacity
        known = self.current >= ring.total - ring.capacity // OLD
        parts = {key: obs[key].reshape(n_envs, self.n_crops, *ring.columns[key].shape[1:]) for key in IMAGE}
        for key, part in parts.items():
            known &= (as_bytes(ring.columns[key][place]) == as_bytes(part)).all(axis=2)
        new = ~known
        start, count = ring.total, int(new.sum())
        at = ring.advance(count)
        for key, part in parts.items():
            ring.columns[key][at] = part[new]
        self.current[new] = np.arange(start, start + count)
        return self.current.copy()

    def num_updates(self, clock: Clock) -> int:
        return self.sampling.num_updates(clock)

    def batches(self, n: int, rng: np.random.Generator, agent: "Agent") -> Iterator[Batch]:
        first = self._first_whole_step()
        for index in self.sampling.draw(n, rng, self.numbers.total - first):
            yield self.batch((first + index) % self.places, agent)

    def _first_whole_step(self) -> int:
        """The number of the oldest step whose crops have not been overwritten yet."""
        first = max(self.first, self.numbers.oldest)
        while self.numbers.columns["oldest"][first % self.places] < self.crops.oldest:
            first += 1
        self.first = first
        return first

    def batch(self, place: NDArray, agent: "Agent") -> Batch:
        """The transitions at these places, (batch,)."""
        batch = self.vectors.batch(place, agent)
        obs, next_obs = (self._images(self.numbers.columns[name][place], agent) for name in ("obs", "next_obs"))
        return batch._replace(obs=batch.obs | obs, next_obs=batch.next_obs | next_obs)

    def _images(self, number: NDArray, agent: "Agent") -> dict[str, "Tensor"]:
        """Crops (batch, crops) -> their parts of the observations."""
        import torch

        if not self.mirrors and wanted(agent.device):
            self.mirrors = {key: Mirror([self.crops], key, agent.device) for key in IMAGE}
        place = number % self.crops.capacity

        def taken(key: str) -> "Tensor":
            if self.mirrors:
                return self.mirrors[key].take(place)
            return torch.from_numpy(self.crops.columns[key].take(place, axis=0))

        return {key: taken(key).reshape(-1, *self.shapes[key]) for key in IMAGE}

    def after(self, batch: Batch, out: Mapping[str, "Tensor"]) -> None:
        """Nothing to take back."""

    def rings(self) -> dict[str, Ring]:
        return {"steps": self.vectors.ring, "numbers": self.numbers, "crops": self.crops}

    def state_dict(self) -> dict:
        return {"current": self.current.tolist()}

    def load_state_dict(self, state: dict) -> None:
        self.current[:] = state["current"]


def without_image(obs: Mapping[str, Any]) -> dict[str, Any]:
    return {key: part for key, part in obs.items() if key not in IMAGE}


def as_bytes(crops: NDArray) -> NDArray:
    """(n_envs, crops, …) -> (n_envs, crops, bytes): compared bit by bit, so that not a number equals itself."""
    return np.ascontiguousarray(crops).view(np.uint8).reshape(*crops.shape[:2], -1)

"""The policy that programs make: from the agent's observation to an action of the pick-and-place environment.

It reads the observation alone, never the truth. It is ExploRLLM's explorer, and a baseline by itself.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from llmrl.checks import ConfigError
from llmrl.envs.pick_place import PickPlace
from llmrl.envs.pick_place.actions import encode
from llmrl.envs.pick_place.scene import FRAME, HOME_PIXEL
from llmrl.methods.explorllm.program import CROP, Programs, Seen

DRAWS = 6  # random numbers of a decision: three for the order of pairs, two for a spare plan, one for the pixel
Sampling = Literal["stochastic", "argmax", "centre"]  # centre: of the crop, whatever the map says


def check_task(env: Any) -> None:
    """env: an environment's Config. Raises ConfigError where it has no crops."""
    if env.observation != "crops":
        raise ConfigError("ExploRLLM's programs look at crops: use env.observation=crops, or method.epsilon=0")


def table_of(env: gym.Env) -> PickPlace:
    """The environment below its wrappers."""
    assert isinstance(env.unwrapped, PickPlace)  # the one suite of these methods
    return env.unwrapped


class ProgramPolicy:
    """The policy that the programs make. offset_scale: pixels of the 224 frame that a pixel of the crop counts: 2 is
    what it measures, 1 is what the authors' code makes of it. `failures` counts by name what fallbacks replaced."""

    def __init__(self, programs: Programs, env: Any, *, offset_scale: float, sampling: Sampling) -> None:
        """env: the environment's Config."""
        self.programs, self._env = programs, env
        self._offset_scale, self._sampling = offset_scale, sampling
        self.failures: Counter[str] = Counter()

    def act(self, obs: Mapping[str, NDArray], draws: NDArray[np.float64]) -> NDArray[np.float32]:
        """Actions (n, *action) for observations of n environments; draws: (n, DRAWS) in [0, 1)."""
        seen = seen_in(obs, draws[:, :3])
        done = self.programs.decide(seen, spare_plans(seen.held, draws[:, 3:5]))
        self.failures.update(done.failures)
        actions = []
        for i, slot in enumerate(done.slot.tolist()):
            pixel = self._pixel(done.maps[i].ravel(), draws[i, 5])
            # x^r = (row - 14, column - 14), in pixels of the frame around the detected position
            offset = self._offset_scale * (np.array(divmod(pixel, CROP)) - CROP // 2)
            target = tuple((seen.position[i, slot] + offset).tolist())
            place = bool(done.place[i])
            actions.append(encode(self._env.actions, place, slot, target, seen.position[i], self._env.residual_px))
        return np.array(actions)

    def _pixel(self, weights: NDArray[np.float64], draw: float) -> int:
        """The number of a pixel, by inverse of the cumulated map, or its highest, or the middle one."""
        if self._sampling == "centre":
            return CROP // 2 * (CROP + 1)
        if self._sampling == "argmax":
            return int(weights.argmax())
        total = weights.cumsum()
        return min(int(np.searchsorted(total, draw * total[-1], side="right")), weights.size - 1)


def seen_in(obs: Mapping[str, NDArray], draws: NDArray[np.float64]) -> Seen:
    """The inputs of programs for observations (n, …); draws: (n, 3) that order the requested pairs randomly.

    An observation does not say which object is held, but a held one is detected at the hand."""
    position = np.rint(obs["position"].astype(np.float64) * FRAME)
    at_hand = np.abs(position[:, :3] - HOME_PIXEL).sum(axis=2).argmin(axis=1)
    held = np.where(obs["in_hand"][:, 0] > 0.5, at_hand, -1)
    if "goal" in obs:
        wanted = (obs["goal"].astype(np.int64) + (0, 3))[:, None]
    else:
        order = draws.argsort(axis=1)
        wanted = np.stack([order, order + 3], axis=2)
    return Seen(held, position, wanted, np.ascontiguousarray(obs["rgb"]))


def spare_plans(held: NDArray[np.int64], draws: NDArray[np.float64]) -> NDArray[np.int64]:
    """(n, 2) random plans (place, slot) that are possible: held things go to a bowl, else an object is picked."""
    slot = (draws[:, 0] * 3).astype(np.int64)
    return np.stack([held >= 0, np.where(held >= 0, slot + 3, slot)], axis=1).astype(np.int64)

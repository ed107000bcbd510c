"""The cases of an evaluation set in lockstep: what ClevrRobot would do with each, to the bit, in less time."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.utils.seeding import np_random
from numpy.typing import NDArray

from llmrl.envs.clevr_robot.batch import Scenes
from llmrl.envs.clevr_robot.config import Config
from llmrl.envs.clevr_robot.episode import begin, observed

Arrays = NDArray[Any]


class SideBySide:
    """n episodes, each with a goal and a sentence of its own; the goals are of one tier. `goals` (n, k), `states`
    (n, 69) and `sentences` are those of the episodes that are left."""

    def __init__(self, config: Config, threads: int = 1) -> None:
        self._config, self._scenes = config, Scenes(config, threads)

    def reset(self, cases: Sequence[tuple[int, Mapping[str, Any] | None]]) -> NDArray[np.float32]:
        """Begins an episode for each (seed, options of ClevrRobot.reset). Returns observations (n, d). Raises
        ConfigError where there is none, for wrong options, and for goals of different tiers."""
        starts = [begin(self._config, np_random(seed)[0], options) for seed, options in cases]
        self.sentences = tuple(start.sentence for start in starts)
        self._steps = 0
        goals, states, believed = (np.stack([getattr(s, k) for s in starts]) for k in ("goal", "state", "believed_xy"))
        seen = self._scenes.reset(goals, states, believed)
        return observed(self._config, seen, self.sentences)

    @property
    def goals(self) -> Arrays:
        return self._scenes.goals

    @property
    def states(self) -> Arrays:
        return self._scenes.states

    def step(self, actions: Arrays) -> tuple[NDArray[np.float32], Arrays, Arrays, Arrays, dict[str, Arrays]]:
        """(observations, rewards, terminated, truncated, infos) of one push each (n,); infos hold success (n,), goal
        and state. Episodes that are over are stepped on, unless `keep` drops them."""
        seen, reward, terminated, info = self._scenes.step(actions)
        self._steps += 1
        truncated = ~terminated & (self._steps >= self._config.max_episode_steps)
        infos = info | {"goal": self.goals, "state": self.states}
        return observed(self._config, seen, self.sentences), reward, terminated, truncated, infos

    def keep(self, mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Goes on with these episodes alone (n,), and returns what is seen of them."""
        self._scenes.keep(mask)
        self.sentences = tuple(s for s, kept in zip(self.sentences, mask, strict=True) if kept)
        return observed(self._config, self._scenes.observations, self.sentences)

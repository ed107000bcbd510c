"""n scenes in lockstep, simulated by several threads: the fast way to evaluate, to collect and to label rollouts."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmrl.checks import ConfigError
from llmrl.envs.clevr_robot import goals as g
from llmrl.envs.clevr_robot import rewards
from llmrl.envs.clevr_robot.config import Config
from llmrl.envs.clevr_robot.model import Table, velocity_of, xy_of


class Scenes:
    """Episodes side by side, each with a goal of its own, all goals of one tier. Nothing is drawn at random here.

    `states` (n, 69), `goals` (n, k) and `observations` (n, 10), or (n, 20) with velocities, are those of the present.
    """

    def __init__(self, config: Config, threads: int = 1) -> None:
        self._config, self._table = config, Table(threads)

    def reset(self, goals: NDArray, states: NDArray, believed_xy: NDArray | None = None) -> NDArray[np.float32]:
        """Starts n episodes from full states (n, 69); model.at_rest makes them of positions. Returns observations.

        believed_xy (n, 5, 2): what the first push believes of the balls' places (`stale_first_push`). Raises
        ConfigError for a goal that is none, or of another tier than the first one.
        """
        tiers = {g.tier_of(goal) for goal in {goal.tobytes(): goal for goal in goals}.values()}
        if len(tiers) > 1:
            raise ConfigError(f"goals of one tier go together, not of {sorted(tiers)}")
        self.tier: g.Tier = tiers.pop()
        if self.tier == "base" and self._config.goals == "google":
            self.tier = "google"
        self.goals = goals
        self.states = states
        self._believed = believed_xy
        return self.observations

    @property
    def observations(self) -> NDArray[np.float32]:
        seen = xy_of(self.states)
        if self._config.obs_velocity:
            seen = np.concatenate([seen, velocity_of(self.states)], axis=1)
        return seen.reshape(len(seen), -1).astype(np.float32)

    def step(self, actions: NDArray) -> tuple[NDArray[np.float32], NDArray, NDArray[np.bool_], dict[str, Any]]:
        """(observations, rewards, terminated, infos) of one push each; infos hold `success` (n,). Whoever counts the
        steps truncates. Scenes that are over are stepped on, unless `keep` drops them."""
        before = xy_of(self.states)
        self.states = self._table.push(self.states, actions, self._believed)
        self._believed = None
        reward, success = rewards.judge(
            self.tier, self.goals, actions, before, xy_of(self.states),
            easy_judge=self._config.easy_judge, tolerance=self._config.radius_tolerance,
        )  # fmt: skip
        over = success
        if self.tier in ("easy", "google"):  # an easy goal is one step; Google's episodes go on after success
            over = np.full(len(success), self.tier == "easy")
        return self.observations, reward, over, {"success": success}

    def keep(self, which: NDArray) -> None:
        """Goes on with these scenes alone: a mask (n,) or indices."""
        self.states, self.goals = self.states[which], self.goals[which]
        self._believed = None if self._believed is None else self._believed[which]

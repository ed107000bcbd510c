"""No exploration of one's own: for agents whose policy explores by itself, such as those with noisy networks."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmrl.explore.base import Clock, EpisodeSummary, Policy


class Unchanged:
    """The policy's own actions."""

    def on_episode_start(self, clock: Clock, number: int, last: EpisodeSummary | None) -> None:
        """Episodes make no difference here."""

    def propose(
        self, obs: Any, policy: Policy, clock: Clock, info: Sequence[dict], rng: np.random.Generator
    ) -> NDArray:
        """Actions (n_envs, *action). Draws nothing."""
        return policy()

    def metrics(self) -> dict[str, float]:
        return {}

    def state_dict(self) -> dict:
        return {}

    def load_state_dict(self, state: dict) -> None:
        """There is no state."""

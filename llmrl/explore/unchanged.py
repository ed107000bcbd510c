"""No exploration of one's own: for agents whose policy explores by itself, such as those with noisy networks."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmrl.contracts.explorer import Clock, Explorer, Policy


class Unchanged(Explorer):
    """The policy's own actions."""

    def propose(
        self, obs: Any, policy: Policy, clock: Clock, info: Sequence[dict], rng: np.random.Generator
    ) -> NDArray:
        """Actions (n_envs, *action). Draws nothing."""
        return policy()

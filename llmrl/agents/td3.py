"""TD3: twin delayed DDPG (Fujimoto et al. 2018, arXiv 1802.09477)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llmrl.agents import ddpg
from llmrl.agents.configs import TD3Config as Config
from llmrl.contracts.replay import Batch


class TD3(ddpg.DDPG):
    """DDPG and three additions: the smaller of two critics, smoothed target actions, and an actor that learns late."""

    n_critics = 2
    config: Config

    def __init__(self, config: Config, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)

        def per_action(value: float) -> Tensor:
            scaled = np.broadcast_to(value * np.asarray(self.noise_scale), self.action_space.shape)
            return torch.tensor(scaled, dtype=torch.float32, device=self.device).flatten()

        self.sigma, self.clip = per_action(config.target_noise), per_action(config.target_noise_clip)
        self.low, self.high = self.middle - self.half_range, self.middle + self.half_range

    def due(self) -> bool:
        """The actor learns, and the targets move."""
        return self.updates % self.config.policy_delay == 0

    def noise(self, n: int) -> Tensor:
        """eps ~ N(0, 1): (n, action)"""
        return torch.randn((n, len(self.sigma)), generator=self.gen)

    def learn_together(self, batch: Batch, noise: Any, *, due: bool) -> Mapping[str, Tensor]:
        # a' = clip(mu'(s') + clip(sigma eps, -c, c), low, high)
        smoothing = (self.sigma * noise).clamp_(-self.clip, self.clip)
        next_action = self.mu(self.target_mlp.forward(batch.next_obs).tanh_())
        next_action = next_action.add_(smoothing).clamp_(self.low, self.high)
        # y = r + gamma (1 - d) min_i Q'_i(s', a')
        seeds, n = batch.reward.shape
        next_q = self.target_q.forward(batch.next_obs, next_action).view(seeds, -1, n).amin(1)
        y = batch.reward + batch.discount * (1 - batch.terminated) * next_q
        metrics = self.learn_critics(batch, y)
        if due:
            metrics["actor_loss"] = self.learn_actor(batch.obs)
        return metrics


AGENT = TD3

"""TD3: twin delayed DDPG (Fujimoto et al. 2018, arXiv 1802.09477)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llmrl.agents import ddpg
from llmrl.agents.nets import flatten, normal
from llmrl.checks import Count, NonNegative, Positive
from llmrl.contracts.replay import Batch


@dataclass(frozen=True)
class Config(ddpg.Config):
    """DDPG's keys and three more; see conf/agent/td3.yaml for what each means and where its value is from."""

    policy_delay: Count
    target_noise: NonNegative
    target_noise_clip: Positive


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
        self.low, self.high = self.actor.middle - self.actor.half_range, self.actor.middle + self.actor.half_range

    def update(self, batch: Batch) -> Mapping[str, Tensor]:
        self.updates += 1
        obs, action, next_obs = flatten(batch.obs), batch.action.flatten(1), flatten(batch.next_obs)
        with torch.no_grad():
            # a' = clip(mu'(s') + clip(eps, -c, c), low, high),  eps ~ N(0, sigma)
            eps = (self.sigma * normal(action.shape, self.gen, self.device)).clamp_(-self.clip, self.clip)
            next_action = (self.target_actor.net(next_obs) + eps).clamp_(self.low, self.high)
            # y = r + gamma (1 - d) min_i Q'_i(s', a')
            next_q = self.target_critic.net(next_obs, next_action).amin(0)
            y = batch.reward + batch.discount * (1 - batch.terminated) * next_q

        # minimise (Q_1(s, a) - y)^2 + (Q_2(s, a) - y)^2
        q = self.critic(obs, action)
        critic_loss = (q - y).square().mean(1).sum()
        self.critic_optimizer.step(critic_loss)
        metrics = {"critic_loss": critic_loss.detach(), "q": q.detach().mean()}

        if self.updates % self.config.policy_delay == 0:
            # maximise Q_1(s, mu(s))
            actor_loss = -self.critic.first(obs, self.actor(obs)).mean()
            self.actor_optimizer.step(actor_loss)
            self.target_critic.track(self.config.tau)
            self.target_actor.track(self.config.tau)
            metrics["actor_loss"] = actor_loss.detach()
        return metrics


AGENT = TD3

"""SAC: soft actor-critic (Haarnoja et al. 2018, arXiv 1812.05905), with a temperature that is learnt or fixed."""

import copy
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from llmrl.agents.capturable import Stackable
from llmrl.agents.configs import SACConfig as Config
from llmrl.agents.nets import Critics, flat_rows, initialised_by, middle_and_half_range, vector_size, weights
from llmrl.agents.nets_gaussian import LOG_STD_MAX, LOG_STD_MIN, SquashedGaussian, SquashedSample
from llmrl.agents.perceptrons import FusedAdam, Perceptrons
from llmrl.contracts.replay import Batch, ReplayBuffer
from llmrl.explore.gaussian import Gaussian
from llmrl.replay.ring import Sampling
from llmrl.replay.uniform import UniformReplay

# Which policy evaluations play: the mean's action | samples, as training does | both, each with rows of its own


class SAC(Stackable):
    """A stochastic actor pi(a | s), two critics Q_i(s, a) with a slow target, and a temperature alpha.

    The networks know actions in -1 … 1, whatever the environment's units are, so that one target entropy serves all.
    """

    actions = "continuous"
    config: Config
    action_space: spaces.Box
    actor: nn.Module
    critic: nn.Module
    target_critic: nn.Module

    def __init__(self, config: Config, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        self.action_size = math.prod(self.action_space.shape)
        self.middle_array, self.half_range_array = middle_and_half_range(self.action_space)
        self.middle = torch.from_numpy(self.middle_array).to(self.device)
        self.half_range = torch.from_numpy(self.half_range_array).to(self.device)
        self.target_entropy = -float(self.action_size) if config.target_entropy is None else config.target_entropy
        log_alpha = torch.full((1,), math.log(config.temperature), device=self.device)
        self.temperature = FusedAdam(log_alpha, config.temperature_learning_rate or config.learning_rate)
        self.make_networks()

    def make_networks(self) -> None:
        c, self.obs_size = self.config, vector_size(self.observation_space)
        with initialised_by(self.gen):
            actor = SquashedGaussian(self.obs_size, self.action_size, c.hidden).to(self.device)
            critic = Critics(2, self.obs_size, self.action_size, c.hidden).to(self.device)
        target = copy.deepcopy(critic)
        self.policy = Perceptrons([actor.mlp.layers], learning_rate=c.learning_rate)
        self.q = Perceptrons([net.layers for net in critic.nets], learning_rate=c.learning_rate)
        self.target_q = Perceptrons([net.layers for net in target.nets])
        self.actor, self.critic, self.target_critic = actor, critic, target

    def act(self, obs: Any, *, explore: bool, gen: Generator) -> NDArray:
        """a ~ pi(. | s) to explore, and where evaluations are to be stochastic (evaluate: sample); else the mean's."""
        u, log_std = np.split(self.policy.act(flat_rows(obs)), 2, axis=1)
        if explore or self.config.evaluate == "sample":
            eps = torch.randn(u.shape, generator=gen).numpy()
            u = u + np.exp(log_std.clip(LOG_STD_MIN, LOG_STD_MAX)) * eps
        action = self.middle_array + self.half_range_array * np.tanh(u)
        return action.reshape(-1, *self.action_space.shape)

    def noise(self, n: int) -> Tensor:
        """eps ~ N(0, 1) of the actions in s, and of those in s': (2, n, action)"""
        return torch.stack([torch.randn((n, self.action_size), generator=self.gen) for _ in range(2)])

    def learn_together(self, batch: Batch, noise: Any, *, due: bool) -> Mapping[str, Tensor]:
        seeds, n = batch.reward.shape
        # a ~ pi(. | s) and a' ~ pi(. | s'), in one pass
        out = self.policy.forward(torch.cat([batch.obs, batch.next_obs], dim=1))
        sample = SquashedSample(out, noise.flatten(1, 2))
        (new_action, next_action), (log_pi, next_log_pi) = sample.action.split(n, 1), sample.log_pi.split(n, 1)

        alpha = self.temperature.weights.exp().unsqueeze(1)
        if self.config.learn_temperature:
            self.learn_temperature(log_pi)

        # y = r + gamma (1 - d) (min_i Q'_i(s', a') - alpha log pi(a' | s'))
        next_q = self.target_q.forward(batch.next_obs, next_action).view(seeds, 2, n).amin(1)
        y = batch.reward + batch.discount * (1 - batch.terminated) * (next_q - alpha * next_log_pi)

        # minimise the mean of 1/2 (Q_1(s, a) - y)^2 + 1/2 (Q_2(s, a) - y)^2: dL/dQ_i = (Q_i - y) / n
        action = (batch.action.flatten(2) - self.middle) / self.half_range
        q = self.q.forward(batch.obs, action).view(seeds, 2, n)
        error = q - y.unsqueeze(1)
        self.q.backward((error / n).view(-1, n, 1))
        self.q.step()

        # minimise the mean of alpha log pi(a | s) - min_i Q_i(s, a), by d min_i Q_i / da and d log pi / da
        new_q = self.q.forward(batch.obs, new_action).view(seeds, 2, n)
        min_q = new_q.amin(1)
        smaller = new_q == min_q.unsqueeze(1)  # where both are equal, each counts half
        share = smaller / (n * smaller.sum(1, keepdim=True))
        dq_da = self.q.input_gradient(share.view(-1, n, 1), slice(self.obs_size, None))
        self.policy.backward(sample.gradient(-dq_da.view(seeds, 2, n, -1).sum(1), (alpha / n).unsqueeze(2)))
        self.policy.step()

        self.target_q.track(self.q, self.config.tau)
        return {
            "critic_loss": 0.5 * error.square().mean(2).sum(1),
            "actor_loss": (alpha * log_pi - min_q).mean(1),
            "q": q.mean((1, 2)),
            "entropy": -log_pi.mean(1),
            "temperature": alpha.squeeze(1),
        }

    def learn_temperature(self, log_pi: Tensor) -> None:
        """minimise -log alpha (mean log pi(a | s) + H): alpha rises while the entropy is below H. log_pi: (seeds, n)"""
        self.temperature.gradient.copy_(-(log_pi.mean(1) + self.target_entropy))
        self.temperature.step()

    def replay_buffer(self) -> ReplayBuffer:
        c = self.config
        sampling = Sampling(c.batch_size, c.learning_starts, c.updates_per_env_step, c.gamma, c.sample_with_replacement)
        return UniformReplay(self.observation_space, self.action_space, capacity=c.replay_size, sampling=sampling)

    def explorer(self) -> Gaussian:
        """The warm-up alone: after it the policy explores by itself."""
        return Gaussian(self.action_space, sigma=0.0, random_steps=self.config.random_steps)

    def adams(self) -> dict[str, Any]:
        """The optimizers of actor and critics."""
        return {"actor_adam": self.policy.adam, "critic_adam": self.q.adam}

    def state_dict(self) -> dict:
        return {
            "actor": weights(self.actor),
            "critic": weights(self.critic),
            "target_critic": weights(self.target_critic),
            "temperature": {"log_alpha": self.temperature.weights.clone()},
            **{name: adam.state_dict() for name, adam in self.adams().items()},
            "temperature_adam": self.temperature.state_dict(),
            "gen": self.gen.get_state(),
            "updates": self.updates,
        }

    def load_state_dict(self, state: dict) -> None:
        self.actor.load_state_dict(state["actor"])
        self.critic.load_state_dict(state["critic"])
        self.target_critic.load_state_dict(state["target_critic"])
        self.temperature.weights.copy_(state["temperature"]["log_alpha"])
        for name, adam in self.adams().items():
            adam.load_state_dict(state[name])
        self.temperature.load_state_dict(state["temperature_adam"])
        self.gen.set_state(state["gen"])
        self.updates = state["updates"]


AGENT = SAC

"""DDPG: deep deterministic policy gradients (Lillicrap et al. 2016, arXiv 1509.02971)."""

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Generator, Tensor

from llmrl.agents.capturable import Stackable
from llmrl.agents.configs import DDPGConfig as Config
from llmrl.agents.nets import Actor, Critics, flat_rows, initialised_by, middle_and_half_range, vector_size, weights
from llmrl.agents.perceptrons import Perceptrons
from llmrl.contracts.replay import Batch
from llmrl.explore.gaussian import Gaussian
from llmrl.replay.ring import Sampling
from llmrl.replay.uniform import UniformReplay


class DDPG(Stackable):
    """One actor mu(s), one critic Q(s, a), and a slow target of each. Critics see actions in environment units."""

    actions = "continuous"
    config: Config
    action_space: spaces.Box
    n_critics = 1

    def __init__(self, config: Config, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        action_space = self.action_space
        self.obs_size, action_size = vector_size(self.observation_space), int(np.prod(action_space.shape))
        with initialised_by(self.gen):
            self.actor = Actor(self.obs_size, action_space, config.hidden).to(self.device)
            self.critic = Critics(self.n_critics, self.obs_size, action_size, config.hidden).to(self.device)
        self.target_actor, self.target_critic = copy.deepcopy(self.actor), copy.deepcopy(self.critic)
        self.middle, self.half_range = self.actor.middle, self.actor.half_range
        self.middle_array, self.half_range_array = middle_and_half_range(action_space)
        eps = config.adam_epsilon
        self.mlp = Perceptrons([self.actor.mlp.layers], learning_rate=config.actor_learning_rate, eps=eps)
        self.q = Perceptrons(
            [net.layers for net in self.critic.nets], learning_rate=config.critic_learning_rate, eps=eps
        )
        self.target_mlp = Perceptrons([self.target_actor.mlp.layers])
        self.target_q = Perceptrons([net.layers for net in self.target_critic.nets])
        self.noise_scale = (action_space.high - action_space.low) / 2 if config.noise_units == "relative" else 1.0

    def act(self, obs: Any, *, explore: bool, gen: Generator) -> NDArray:
        """mu(s), the same with and without `explore`: the noise is the explorer's."""
        action = self.middle_array + self.half_range_array * np.tanh(self.mlp.act(flat_rows(obs)))
        return action.reshape(-1, *self.action_space.shape)

    def learn_together(self, batch: Batch, noise: Any, *, due: bool) -> Mapping[str, Tensor]:
        # y = r + gamma (1 - d) Q'(s', mu'(s'))
        next_action = self.mu(self.target_mlp.forward(batch.next_obs).tanh_())
        next_q = self.target_q.forward(batch.next_obs, next_action).squeeze(2)
        y = batch.reward + batch.discount * (1 - batch.terminated) * next_q
        metrics = self.learn_critics(batch, y)
        metrics["actor_loss"] = self.learn_actor(batch.obs)
        return metrics

    def mu(self, squashed: Tensor) -> Tensor:
        """mu(s) in environment units, of tanh(MLP(s))."""
        return torch.addcmul(self.middle, self.half_range, squashed)

    def learn_critics(self, batch: Batch, y: Tensor) -> dict[str, Tensor]:
        """minimise the sum over critics of mean (Q_i(s, a) - y)^2, of which dL/dQ_i = 2 (Q_i - y) / n"""
        seeds, n = y.shape
        q = self.q.forward(batch.obs, batch.action.flatten(2)).view(seeds, -1, n)
        error = q - y.unsqueeze(1)
        self.q.backward((2 / n * error).view(-1, n, 1))
        self.q.step()
        return {"critic_loss": error.square().mean(2).sum(1), "q": q.mean((1, 2))}

    def learn_actor(self, obs: Tensor) -> Tensor:
        """maximise mean Q_1(s, mu(s)) by dQ_1/da da/dz, a = mu(s) = middle + half_range tanh(z), z = MLP(s); then all
        targets track."""
        squashed = self.mlp.forward(obs).tanh_()
        q = self.q.forward(obs, self.mu(squashed), every=self.n_critics)
        dq_da = self.q.input_gradient(torch.full_like(q, -1 / q.shape[1]), slice(self.obs_size, None))
        self.mlp.backward(dq_da * self.half_range * (1 - squashed.square()))
        self.mlp.step()
        self.target_q.track(self.q, self.config.tau)
        self.target_mlp.track(self.mlp, self.config.tau)
        return -q.mean((1, 2))

    def replay_buffer(self) -> UniformReplay:
        c = self.config
        sampling = Sampling(c.batch_size, c.learning_starts, c.updates_per_env_step, c.gamma, c.sample_with_replacement)
        return UniformReplay(self.observation_space, self.action_space, capacity=c.replay_size, sampling=sampling)

    def explorer(self) -> Gaussian:
        c = self.config
        return Gaussian(self.action_space, sigma=c.exploration_noise * self.noise_scale, random_steps=c.random_steps)

    def state_dict(self) -> dict:
        return {
            "actor": weights(self.actor),
            "critic": weights(self.critic),
            "target_actor": weights(self.target_actor),
            "target_critic": weights(self.target_critic),
            "actor_adam": self.mlp.adam.state_dict(),
            "critic_adam": self.q.adam.state_dict(),
            "gen": self.gen.get_state(),
            "updates": self.updates,
        }

    def load_state_dict(self, state: dict) -> None:
        self.actor.load_state_dict(state["actor"])
        self.critic.load_state_dict(state["critic"])
        self.target_actor.load_state_dict(state["target_actor"])
        self.target_critic.load_state_dict(state["target_critic"])
        self.mlp.adam.load_state_dict(state["actor_adam"])
        self.q.adam.load_state_dict(state["critic_adam"])
        self.gen.set_state(state["gen"])
        self.updates = state["updates"]


AGENT = DDPG

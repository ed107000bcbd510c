"""DDPG: deep deterministic policy gradients (Lillicrap et al. 2016, arXiv 1509.02971)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Generator, Tensor
from torch.nn import functional as F

from llmrl.agents.nets import Actor, Critics, Optimizer, Target, flatten, initialised_by, tensors, vector_size
from llmrl.checks import Count, HalfOpenUnit, NonNegative, NonNegativeInt, Positive, Probability, SideBySide
from llmrl.contracts.agent import Agent
from llmrl.contracts.replay import Batch
from llmrl.explore.gaussian import Gaussian
from llmrl.replay.ring import Sampling
from llmrl.replay.uniform import UniformReplay


@dataclass(frozen=True)
class Config:
    """See conf/agent/ddpg.yaml for what each key means and where its value is from."""

    hidden: tuple[Count, ...]
    actor_learning_rate: Positive
    critic_learning_rate: Positive
    gamma: Probability
    tau: HalfOpenUnit
    batch_size: Count
    replay_size: Count
    sample_with_replacement: bool
    learning_starts: NonNegativeInt = field(metadata={"scales": True})
    updates_per_env_step: Positive
    n_envs: SideBySide
    random_steps: NonNegativeInt = field(metadata={"scales": True})
    exploration_noise: NonNegative
    noise_units: Literal["relative", "absolute"]
    adam_epsilon: Positive = field(metadata={"neutral": 1e-8})

    def __post_init__(self) -> None:
        if self.replay_size < self.n_envs:
            raise ValueError(f"replay_size: {self.replay_size} is less than n_envs ({self.n_envs}), raise it")


class DDPG(Agent):
    """One actor mu(s), one critic Q(s, a), and a slow target of each. Critics see actions in environment units."""

    actions = "continuous"
    config: Config
    action_space: spaces.Box
    n_critics = 1

    def __init__(self, config: Config, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        action_space = self.action_space
        obs_size, action_size = vector_size(self.observation_space), int(np.prod(action_space.shape))
        with initialised_by(self.gen):
            self.actor = Actor(obs_size, action_space, config.hidden).to(self.device)
            self.critic = Critics(self.n_critics, obs_size, action_size, config.hidden).to(self.device)
        self.target_actor, self.target_critic = Target(self.actor), Target(self.critic)
        self.actor_optimizer = Optimizer(self.actor, config.actor_learning_rate, eps=config.adam_epsilon)
        self.critic_optimizer = Optimizer(self.critic, config.critic_learning_rate, eps=config.adam_epsilon)
        self.noise_scale = (action_space.high - action_space.low) / 2 if config.noise_units == "relative" else 1.0

    def act(self, obs: Any, *, explore: bool, gen: Generator) -> NDArray:
        """mu(s), the same with and without `explore`: the noise is the explorer's."""
        with torch.inference_mode():
            action = self.actor(flatten(tensors(obs, self.device)))
        return action.cpu().numpy().reshape(-1, *self.action_space.shape)

    def update(self, batch: Batch) -> Mapping[str, Tensor]:
        self.updates += 1
        obs, next_obs = flatten(batch.obs), flatten(batch.next_obs)
        with torch.no_grad():
            # y = r + gamma (1 - d) Q'(s', mu'(s'))
            next_q = self.target_critic.net(next_obs, self.target_actor.net(next_obs))[0]
            y = batch.reward + batch.discount * (1 - batch.terminated) * next_q

        # minimise (Q(s, a) - y)^2
        q = self.critic(obs, batch.action.flatten(1))[0]
        critic_loss = F.mse_loss(q, y)
        self.critic_optimizer.step(critic_loss)

        # maximise Q(s, mu(s))
        actor_loss = -self.critic(obs, self.actor(obs))[0].mean()
        self.actor_optimizer.step(actor_loss)

        self.target_critic.track(self.config.tau)
        self.target_actor.track(self.config.tau)
        return {"critic_loss": critic_loss.detach(), "actor_loss": actor_loss.detach(), "q": q.detach().mean()}

    def replay_buffer(self) -> UniformReplay:
        c = self.config
        sampling = Sampling(c.batch_size, c.learning_starts, c.updates_per_env_step, c.gamma, c.sample_with_replacement)
        return UniformReplay(self.observation_space, self.action_space, capacity=c.replay_size, sampling=sampling)

    def explorer(self) -> Gaussian:
        c = self.config
        return Gaussian(self.action_space, sigma=c.exploration_noise * self.noise_scale, random_steps=c.random_steps)

    def state_dict(self) -> dict:
        return {
            "actor": self.actor.state_dict(),
            "critic": self.critic.state_dict(),
            "target_actor": self.target_actor.net.state_dict(),
            "target_critic": self.target_critic.net.state_dict(),
            "actor_adam": self.actor_optimizer.adam.state_dict(),
            "critic_adam": self.critic_optimizer.adam.state_dict(),
            "gen": self.gen.get_state(),
            "updates": self.updates,
        }

    def load_state_dict(self, state: dict) -> None:
        self.actor.load_state_dict(state["actor"])
        self.critic.load_state_dict(state["critic"])
        self.target_actor.net.load_state_dict(state["target_actor"])
        self.target_critic.net.load_state_dict(state["target_critic"])
        self.actor_optimizer.adam.load_state_dict(state["actor_adam"])
        self.critic_optimizer.adam.load_state_dict(state["critic_adam"])
        self.gen.set_state(state["gen"])
        self.updates = state["updates"]


AGENT = DDPG

"""SAC: soft actor-critic (Haarnoja et al. 2018, arXiv 1812.05905), with a temperature that is learnt or fixed."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from llmrl.agents.nets import Critics, Optimizer, Target, flatten, initialised_by, normal, tensors, vector_size
from llmrl.agents.nets_gaussian import SquashedGaussian, Temperature
from llmrl.checks import Count, HalfOpenUnit, NonNegativeInt, Positive, Probability, SideBySide
from llmrl.contracts.agent import Agent
from llmrl.contracts.replay import Batch, ReplayBuffer
from llmrl.explore.gaussian import Gaussian
from llmrl.replay.ring import Sampling
from llmrl.replay.uniform import UniformReplay


@dataclass(frozen=True)
class Config:
    """See conf/agent/sac.yaml for what each key means and where its value is from."""

    hidden: tuple[Count, ...]
    learning_rate: Positive
    gamma: Probability
    tau: HalfOpenUnit
    temperature: Positive
    learn_temperature: bool
    target_entropy: float | None
    batch_size: Count
    replay_size: Count
    sample_with_replacement: bool
    learning_starts: NonNegativeInt = field(metadata={"scales": True})
    updates_per_env_step: Positive
    n_envs: SideBySide
    random_steps: NonNegativeInt = field(metadata={"scales": True})

    def __post_init__(self) -> None:
        if self.replay_size < self.n_envs:
            raise ValueError(f"replay_size: {self.replay_size} is less than n_envs ({self.n_envs}), raise it")


class SAC(Agent):
    """A stochastic actor pi(a | s), two critics Q_i(s, a) with a slow target, and a temperature alpha.

    The networks know actions in -1 … 1, whatever the environment's units are, so that one target entropy serves all.
    """

    actions = "continuous"
    config: Config
    action_space: spaces.Box

    def __init__(self, config: Config, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        self.action_size = math.prod(self.action_space.shape)
        low, high = (torch.as_tensor(b, dtype=torch.float32, device=self.device).flatten()
                     for b in (self.action_space.low, self.action_space.high))  # fmt: skip
        self.middle, self.half_range = (high + low) / 2, (high - low) / 2
        with initialised_by(self.gen):
            self.actor, self.critic = (net.to(self.device) for net in self.networks())
        self.temperature = Temperature(config.temperature).to(self.device)
        self.target_critic = Target(self.critic)
        rate = config.learning_rate
        self.actor_optimizer, self.critic_optimizer = Optimizer(self.actor, rate), Optimizer(self.critic, rate)
        self.temperature_optimizer = Optimizer(self.temperature, rate)
        self.target_entropy = -float(self.action_size) if config.target_entropy is None else config.target_entropy

    @staticmethod
    def features(obs: Any) -> Any:
        """What the networks see of (batch, *obs)."""
        return flatten(obs)

    def networks(self) -> tuple[nn.Module, nn.Module]:
        """New ones: actor and critics. Whoever wants an encoder before them overrides this and `features`."""
        obs_size, hidden = vector_size(self.observation_space), self.config.hidden
        return SquashedGaussian(obs_size, self.action_size, hidden), Critics(2, obs_size, self.action_size, hidden)

    def act(self, obs: Any, *, explore: bool, gen: Generator) -> NDArray:
        """a ~ pi(. | s) to explore, else the action of the mean."""
        with torch.inference_mode():
            x = self.features(tensors(obs, self.device))
            action, _ = self.actor(x, self._noise(x, gen) if explore else None)
            action = torch.addcmul(self.middle, self.half_range, action)
        return action.cpu().numpy().reshape(-1, *self.action_space.shape)

    def update(self, batch: Batch) -> Mapping[str, Tensor]:
        self.updates += 1
        obs, next_obs = self.features(batch.obs), self.features(batch.next_obs)
        action = (batch.action.flatten(1) - self.middle) / self.half_range
        new_action, log_pi = self.actor(obs, self._noise(obs, self.gen))
        log_alpha = self.temperature.log_alpha
        alpha = log_alpha.detach().exp()
        if self.config.learn_temperature:
            # minimise -log alpha (log pi(a | s) + H), which raises alpha while the entropy is below H
            self.temperature_optimizer.step(-log_alpha.sum() * (log_pi.detach().mean() + self.target_entropy))

        with torch.no_grad():
            # y = r + gamma (1 - d) (min_i Q'_i(s', a') - alpha log pi(a' | s')),  a' ~ pi(. | s')
            next_action, next_log_pi = self.actor(next_obs, self._noise(next_obs, self.gen))
            next_value = self.target_critic.net(next_obs, next_action).amin(0) - alpha * next_log_pi
            y = batch.reward + batch.discount * (1 - batch.terminated) * next_value

        # minimise 1/2 (Q_1(s, a) - y)^2 + 1/2 (Q_2(s, a) - y)^2
        q = self.critic(obs, action)
        critic_loss = 0.5 * (q - y).square().mean(1).sum()
        self.critic_optimizer.step(critic_loss)

        # minimise alpha log pi(a | s) - min_i Q_i(s, a),  a ~ pi(. | s)
        actor_loss = (alpha * log_pi - self.critic(obs, new_action).amin(0)).mean()
        self.actor_optimizer.step(actor_loss)

        self.target_critic.track(self.config.tau)
        metrics = {"critic_loss": critic_loss, "actor_loss": actor_loss, "q": q.mean(), "entropy": -log_pi.mean()}
        return {name: value.detach() for name, value in metrics.items()} | {"temperature": alpha.sum()}

    def _noise(self, x: Tensor, gen: Generator) -> Tensor:
        return normal((len(x), self.action_size), gen, self.device)

    def replay_buffer(self) -> ReplayBuffer:
        c = self.config
        sampling = Sampling(c.batch_size, c.learning_starts, c.updates_per_env_step, c.gamma, c.sample_with_replacement)
        return UniformReplay(self.observation_space, self.action_space, capacity=c.replay_size, sampling=sampling)

    def explorer(self) -> Gaussian:
        """The warm-up alone: after it the policy explores by itself."""
        return Gaussian(self.action_space, sigma=0.0, random_steps=self.config.random_steps)

    def state_dict(self) -> dict:
        return {
            "actor": self.actor.state_dict(),
            "critic": self.critic.state_dict(),
            "target_critic": self.target_critic.net.state_dict(),
            "temperature": self.temperature.state_dict(),
            "actor_adam": self.actor_optimizer.adam.state_dict(),
            "critic_adam": self.critic_optimizer.adam.state_dict(),
            "temperature_adam": self.temperature_optimizer.adam.state_dict(),
            "gen": self.gen.get_state(),
            "updates": self.updates,
        }

    def load_state_dict(self, state: dict) -> None:
        self.actor.load_state_dict(state["actor"])
        self.critic.load_state_dict(state["critic"])
        self.target_critic.net.load_state_dict(state["target_critic"])
        self.temperature.load_state_dict(state["temperature"])
        self.actor_optimizer.adam.load_state_dict(state["actor_adam"])
        self.critic_optimizer.adam.load_state_dict(state["critic_adam"])
        self.temperature_optimizer.adam.load_state_dict(state["temperature_adam"])
        self.gen.set_state(state["gen"])
        self.updates = state["updates"]


AGENT = SAC

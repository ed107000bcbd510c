"""DQN (Mnih et al. 2015), with double, dueling and noisy networks as options."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Generator, Tensor
from torch.nn import functional as F

from llmrl.agents.nets import Noise, NumpyQ, Optimizer, QNetwork, Target, initialised_by, is_frames, tensors
from llmrl.checks import Count, HalfOpenUnit, NonNegativeInt, Positive, Probability, SideBySide
from llmrl.contracts.agent import Agent
from llmrl.contracts.replay import Batch
from llmrl.explore.epsilon_greedy import EpsilonGreedy, Schedule, exponential, linear
from llmrl.replay.frames import FrameReplay
from llmrl.replay.ring import Sampling
from llmrl.replay.uniform import UniformReplay


@dataclass(frozen=True)
class Config:
    """See conf/agent/dqn.yaml for what each key means and where its value is from."""

    double: bool
    dueling: bool
    noisy: bool
    sigma0: Positive
    hidden: tuple[Count, ...]
    hidden_after_convolutions: tuple[Count, ...]
    learning_rate: Positive
    loss: Literal["mse", "huber"]
    max_grad_norm: Positive | None
    gamma: Probability
    target_update_every: Count
    batch_size: Count
    replay_size: Count
    sample_with_replacement: bool
    learning_starts: NonNegativeInt = field(metadata={"scales": True})
    updates_per_env_step: Positive
    n_envs: SideBySide
    random_steps: NonNegativeInt = field(metadata={"scales": True})
    epsilon_schedule: Literal["linear", "exponential"]
    epsilon_start: Probability
    epsilon_end: Probability
    epsilon_fraction: Probability
    epsilon_decay: HalfOpenUnit

    def __post_init__(self) -> None:
        if self.replay_size < self.n_envs:
            raise ValueError(f"replay_size: {self.replay_size} is less than n_envs ({self.n_envs}), raise it")
        if self.epsilon_end > self.epsilon_start:
            raise ValueError(f"epsilon_end: {self.epsilon_end} is above epsilon_start ({self.epsilon_start}), lower it")


class DQN(Agent):
    """One network Q(s, .), and a copy of it that is renewed every `target_update_every` updates."""

    actions = "discrete"
    config: Config
    action_space: spaces.Discrete

    def __init__(self, config: Config, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        obs = self.observation_space
        with initialised_by(self.gen):
            self.q = QNetwork(
                obs,
                int(self.action_space.n),
                config.hidden_after_convolutions if is_frames(obs) else config.hidden,
                dueling=config.dueling,
                sigma0=config.sigma0 if config.noisy else None,
            ).to(self.device)
        self.target = Target(self.q)
        self.optimizer = Optimizer(self.q, config.learning_rate, config.max_grad_norm)
        plain = isinstance(obs, spaces.Box) and not (config.dueling or config.noisy)
        self.quick_q = NumpyQ(self.q) if plain and self.device.type == "cpu" else None

    def act(self, obs: Any, *, explore: bool, gen: Generator) -> NDArray:
        """argmax_a Q(s, a); a noisy network that explores draws new noise from `gen`, else it uses the means."""
        if self.quick_q is not None:
            return self.quick_q(obs).argmax(1)
        with torch.inference_mode():
            noise = self.q.draw(gen, self.device) if explore else None
            return self.q(tensors(obs, self.device), noise).cpu().numpy().argmax(1)

    def update(self, batch: Batch) -> Mapping[str, Tensor]:
        self.updates += 1
        with torch.no_grad():
            next_q = self.target.net(batch.next_obs, self._noise())
            if self.config.double:
                # max_a' Q'(s', a') becomes Q'(s', argmax_a' Q(s', a')): van Hasselt et al. 2016, arXiv 1509.06461
                best = self.q(batch.next_obs, self._noise()).argmax(1, keepdim=True)
                next_value = next_q.gather(1, best).squeeze(1)
            else:
                next_value = next_q.amax(1)
            # y = r + gamma (1 - d) max_a' Q'(s', a')
            y = batch.reward + batch.discount * (1 - batch.terminated) * next_value

        # minimise the loss of Q(s, a) - y
        q = self.q(batch.obs, self._noise()).gather(1, batch.action.unsqueeze(1)).squeeze(1)
        loss = F.mse_loss(q, y) if self.config.loss == "mse" else F.huber_loss(q, y)
        self.optimizer.step(loss)

        if self.updates % self.config.target_update_every == 0:
            self.target.track(1.0)
        return {"loss": loss.detach(), "q": q.detach().mean()}

    def _noise(self) -> list[Noise] | None:
        return self.q.draw(self.gen, self.device)

    def replay_buffer(self) -> UniformReplay | FrameReplay:
        c, obs, action = self.config, self.observation_space, self.action_space
        sampling = Sampling(c.batch_size, c.learning_starts, c.updates_per_env_step, c.gamma, c.sample_with_replacement)
        if is_frames(obs):
            return FrameReplay(obs, action, capacity=c.replay_size, n_envs=c.n_envs, sampling=sampling)
        return UniformReplay(obs, action, capacity=c.replay_size, sampling=sampling)

    def explorer(self) -> EpsilonGreedy:
        epsilon = epsilon_schedule(self.config, self.env_steps)
        return EpsilonGreedy(int(self.action_space.n), epsilon=epsilon, random_steps=self.config.random_steps)

    def state_dict(self) -> dict:
        return {
            "q": self.q.state_dict(),
            "target": self.target.net.state_dict(),
            "adam": self.optimizer.adam.state_dict(),
            "gen": self.gen.get_state(),
            "updates": self.updates,
        }

    def load_state_dict(self, state: dict) -> None:
        self.q.load_state_dict(state["q"])
        self.target.net.load_state_dict(state["target"])
        self.optimizer.adam.load_state_dict(state["adam"])
        self.gen.set_state(state["gen"])
        self.updates = state["updates"]


AGENT = DQN


def epsilon_schedule(c: Any, env_steps: int) -> Schedule:
    """The schedule that the epsilon_* keys of an agent's Config ask for; `env_steps` is the budget."""
    if c.epsilon_schedule == "linear":
        return linear(c.epsilon_start, c.epsilon_end, c.epsilon_fraction * env_steps)
    return exponential(c.epsilon_start, c.epsilon_end, c.epsilon_decay)

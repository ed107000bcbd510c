"""DQN (Mnih et al. 2015), with double, dueling and noisy networks as options."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Generator, Tensor

from llmrl.agents.capturable import Stackable
from llmrl.agents.configs import DQNConfig as Config
from llmrl.agents.nets import (
    Differentiated,
    QNetwork,
    flat_rows,
    flatten,
    initialised_by,
    is_frames,
    tensors,
    weights,
)
from llmrl.agents.nets_numpy import NumpyQ
from llmrl.agents.perceptrons import Perceptrons
from llmrl.contracts.replay import Batch
from llmrl.explore.epsilon_greedy import EpsilonGreedy, Schedule, exponential, linear
from llmrl.replay.frames import FrameReplay
from llmrl.replay.ring import Sampling
from llmrl.replay.uniform import UniformReplay


class DQN(Stackable):
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
        self.target = copy.deepcopy(self.q).requires_grad_(False)
        rate, norm = config.learning_rate, config.max_grad_norm
        self.plain = _plain(config, obs)
        self.values: Any  # Perceptrons, or what has their methods
        self.target_values: Any
        if self.plain:
            self.values = Perceptrons([self.q.advantage], learning_rate=rate, max_grad_norm=norm)
            self.target_values = Perceptrons([self.target.advantage])
        else:
            self.values = Differentiated(self.q, learning_rate=rate, max_grad_norm=norm)
            self.target_values = Differentiated(self.target)
        quick = is_frames(obs) and not (config.dueling or config.noisy) and self.device.type == "cpu"
        self.quick_q = NumpyQ(self.q) if quick else None

    def act(self, obs: Any, *, explore: bool, gen: Generator) -> NDArray:
        """argmax_a Q(s, a); a noisy network that explores draws new noise from `gen`, else it uses the means."""
        if isinstance(self.values, Perceptrons):
            return self.values.act(flat_rows(obs)).argmax(1)
        if self.quick_q is not None:
            return self.quick_q(obs).argmax(1)
        with torch.inference_mode():
            noise = self.q.draw(gen, self.device) if explore else None
            return self.q(tensors(obs, self.device), noise).cpu().numpy().argmax(1)

    @classmethod
    def can_stack(cls, config: Any, observation_space: spaces.Space) -> bool:
        return super().can_stack(config, observation_space) and _plain(config, observation_space)

    def features(self, obs: Any) -> Any:
        return obs if is_frames(self.observation_space) else flatten(obs)

    def noise(self, n: int) -> tuple[Tensor, ...]:
        """Of noisy networks: for the target, for the choice of double DQN, and for what learns."""
        passes = 2 + self.config.double if self.config.noisy else 0
        return tuple(torch.randn(sum(self.q.noise_sizes), generator=self.gen) for _ in range(passes))

    def due(self) -> bool:
        """The target is renewed."""
        return self.updates % self.config.target_update_every == 0

    def learn_together(self, batch: Batch, noise: Any, *, due: bool) -> Mapping[str, Tensor]:
        target_noise, best_noise, own_noise = noise[:1], noise[1:-1], noise[-1:]  # all empty without noisy layers
        next_q = self.target_values.forward(batch.next_obs, *target_noise)
        if self.config.double:
            # max_a' Q'(s', a') becomes Q'(s', argmax_a' Q(s', a')): van Hasselt et al. 2016, arXiv 1509.06461
            best = self.values.forward(batch.next_obs, *best_noise).argmax(2, keepdim=True)
            next_value = next_q.gather(2, best).squeeze(2)
        else:
            next_value = next_q.amax(2)
        # y = r + gamma (1 - d) max_a' Q'(s', a')
        y = batch.reward + batch.discount * (1 - batch.terminated) * next_value

        # minimise the mean loss of Q(s, a) - y: dL/dQ(s, a) is 2 (Q - y) / n, of Huber's loss clip(Q - y, -1, 1) / n
        action = batch.action.unsqueeze(2)
        values = self.values.forward(batch.obs, *own_noise)
        q = values.detach().gather(2, action).squeeze(2)
        error = q - y
        if self.config.loss == "mse":
            loss, slope = error.square(), 2 * error
        else:
            slope = error.clamp(-1, 1)
            loss = slope * (error - 0.5 * slope)  # e^2 / 2 inside -1 … 1, |e| - 1/2 outside
        gradient = torch.zeros_like(values).scatter_(2, action, (slope / y.shape[1]).unsqueeze(2))
        self.values.backward(gradient)
        self.values.step()

        if due:
            self.target_values.track(self.values, 1.0)
        return {"loss": loss.mean(1), "q": q.mean(1)}

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
            "q": weights(self.q),
            "target": weights(self.target),
            "adam": self.values.adam.state_dict(),
            "gen": self.gen.get_state(),
            "updates": self.updates,
        }

    def load_state_dict(self, state: dict) -> None:
        self.q.load_state_dict(state["q"])
        self.target.load_state_dict(state["target"])
        self.values.adam.load_state_dict(state["adam"])
        self.gen.set_state(state["gen"])
        self.updates = state["updates"]


AGENT = DQN


def _plain(config: Any, observation_space: spaces.Space) -> bool:
    """Whether its network is a perceptron."""
    return not (is_frames(observation_space) or config.dueling or config.noisy)


def epsilon_schedule(c: Any, env_steps: int) -> Schedule:
    """The schedule that the epsilon_* keys of an agent's Config ask for; `env_steps` is the budget."""
    if c.epsilon_schedule == "linear":
        return linear(c.epsilon_start, c.epsilon_end, c.epsilon_fraction * env_steps)
    return exponential(c.epsilon_start, c.epsilon_end, c.epsilon_decay)

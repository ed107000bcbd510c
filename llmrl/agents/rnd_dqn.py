"""RND-DQN: DQN whose reward has a bonus for what it has seldom seen, random network distillation (Burda et al. 2019,
arXiv 1810.12894)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from llmrl.agents import dqn
from llmrl.agents.configs import RNDDQNConfig as Config
from llmrl.agents.nets import MLP, NatureCNN, Optimizer, flatten, initialised_by, is_frames, vector_size
from llmrl.contracts.replay import Batch

CLIP = 5.0  # normalised observations are clipped to -CLIP … CLIP (Burda et al., section 2.4)


class RNDDQN(dqn.DQN):
    """DQN, a random network f, and a network f^ that learns to predict it and is wrong where it has seldom been."""

    config: Config

    def __init__(self, config: Config, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        space, size = self.observation_space, config.rnd_size
        with initialised_by(self.gen):
            self.random = Embedding(space, config.rnd_target_hidden, size).requires_grad_(False).to(self.device)
            self.predictor = Embedding(space, config.rnd_predictor_hidden, size).to(self.device)
        self.predictor_optimizer = Optimizer(self.predictor, config.rnd_learning_rate)
        self.seen = RunningMoments(Embedding.input_shape(space)).to(self.device)
        self.errors = RunningMoments(()).to(self.device)

    def learn(self, batch: Batch, noise: Any, *, due: bool) -> Mapping[str, Tensor]:
        # s~ = clip((s' - mean) / std, -5, 5), of all s' learnt from so far
        x = Embedding.input_of(batch.next_obs)
        self.seen.add(x)
        x = ((x - self.seen.mean) / self.seen.std).clamp_(-CLIP, CLIP).float()
        # the error |f^(s~) - f(s~)|^2 / size, which the predictor minimises
        error = (self.predictor(x) - self.random(x)).square().mean(1)
        self.predictor_optimizer.step(error.mean())
        # the bonus is made of that error, before this step of the predictor
        error = error.detach()
        self.errors.add(error)
        if self.config.bonus_scale == "deviation":
            bonus = (error / self.errors.std).float()  # in units of its standard deviation so far
        else:
            bonus = (error * self.config.rnd_size).clamp(max=1)  # min(|f^(s~) - f(s~)|^2, 1)
        if self.config.bonus == "target":
            # y = r + weight * bonus + gamma (1 - d) max_a' Q'(s', a')
            batch = batch._replace(reward=batch.reward + self.config.bonus_weight * bonus)
        return {**super().learn(batch, noise, due=due), "bonus": bonus.mean(), "rnd_error": error.mean()}

    def state_dict(self) -> dict:
        return super().state_dict() | {
            "random": self.random.state_dict(),
            "predictor": self.predictor.state_dict(),
            "predictor_adam": self.predictor_optimizer.adam.state_dict(),
            "seen": self.seen.state_dict(),
            "errors": self.errors.state_dict(),
        }

    def load_state_dict(self, state: dict) -> None:
        super().load_state_dict(state)
        self.random.load_state_dict(state["random"])
        self.predictor.load_state_dict(state["predictor"])
        self.predictor_optimizer.adam.load_state_dict(state["predictor_adam"])
        self.seen.load_state_dict(state["seen"])
        self.errors.load_state_dict(state["errors"])


AGENT = RNDDQN


class Embedding(nn.Module):
    """f(s): the newest frame through convolutions, or a vector, and then linear layers."""

    def __init__(self, space: spaces.Space, hidden: Sequence[int], size: int) -> None:
        super().__init__()
        self.convolutions = NatureCNN((1, *space.shape[1:])) if is_frames(space) else None
        self.mlp = MLP((self.convolutions.size if self.convolutions else vector_size(space), *hidden, size))

    @staticmethod
    def input_shape(space: spaces.Space) -> tuple[int, ...]:
        return (1, *space.shape[1:]) if is_frames(space) else (vector_size(space),)

    @staticmethod
    def input_of(obs: Any) -> Tensor:
        """(batch, *obs) -> (batch, 1, height, width) or (batch, vector_size)."""
        return obs[:, -1:] if isinstance(obs, Tensor) and obs.dtype == torch.uint8 and obs.dim() == 4 else flatten(obs)

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(x if self.convolutions is None else self.convolutions.features(x))


class RunningMoments(nn.Module):
    """Mean and variance of all that was added, merged batch by batch (Chan et al. 1983)."""

    count: Tensor
    mean: Tensor
    squares: Tensor  # sum of (x - mean)^2

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("squares", torch.zeros(shape, dtype=torch.float64))

    @torch.no_grad()
    def add(self, x: Tensor) -> None:
        """(batch, *shape)"""
        x = x.double()
        n, mean = len(x), x.mean(0)
        delta = mean - self.mean
        total = self.count + n
        self.squares += (x - mean).square().sum(0) + delta.square() * self.count * n / total
        self.mean += delta * n / total
        self.count.copy_(total)

    @property
    def std(self) -> Tensor:
        """(*shape); never 0, so that what has never changed is divided by something."""
        return (self.squares / self.count).sqrt().clamp_(min=1e-4)

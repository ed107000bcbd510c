"""Stochastic policies: SAC's squashed Gaussian, and PPO's Gaussian and categorical ones."""

import itertools
import math
from collections.abc import Sequence

import torch
from gymnasium import spaces
from torch import Generator, Tensor, nn

from llmrl.agents.nets import MLP, normal

LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0  # of SAC, as in stable-baselines3
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class SquashedGaussian(nn.Module):
    """a = tanh(u), u ~ N(mu(s), sigma(s)): the policy of SAC, inside -1 … 1."""

    def __init__(self, obs_size: int, action_size: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.mlp = MLP((obs_size, *hidden, 2 * action_size))

    def forward(self, obs: Tensor, eps: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """(batch, obs_size), standard normal (batch, action) -> (batch, action) in -1 … 1, log pi (batch,).

        Without `eps` the action is that of the mean, and there is no log pi.
        """
        out = self.mlp(obs)
        if eps is None:
            return out.chunk(2, dim=1)[0].tanh(), None
        sample = SquashedSample(out, eps)
        return sample.action, sample.log_pi


class SquashedSample:
    """a = tanh(u), u = mu + sigma eps, and log pi(a | s), with the gradients of both.

    `out` (…, n, 2 action) is mu and, unclipped, log sigma; eps (…, n, action) is standard normal.
    """

    def __init__(self, out: Tensor, eps: Tensor) -> None:
        mean, log_std = out.chunk(2, dim=-1)
        self.out, clipped = out, log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)
        self.deviation = clipped.exp() * eps
        self.action = (mean + self.deviation).tanh()
        self.slope = 1 - self.action.square()  # da/du
        # log pi = log N(u; mu, sigma) - sum log(1 - tanh(u)^2); 1e-6 keeps the logarithm finite
        log_normal = -0.5 * eps.square() - clipped - HALF_LOG_2PI
        self.log_pi = (log_normal - (self.slope + 1e-6).log()).sum(-1)

    def gradient(self, dl_da: Tensor, dl_dlog_pi: Tensor) -> Tensor:
        """dL/d(out) of the first rows, of which dL/da (…, n, action) and dL/d(log pi) (…, n or 1, 1) are given."""
        n = dl_da.shape[-2]
        action, slope, deviation = (x[..., :n, :] for x in (self.action, self.slope, self.deviation))
        # d log pi / du = 2 a (1 - a^2) / (1 - a^2 + 1e-6), du/d(log sigma) = sigma eps, d log pi / d(log sigma) = -1
        dl_du = (dl_da + dl_dlog_pi * 2 * action / (slope + 1e-6)) * slope
        log_std = self.out[..., :n, self.out.shape[-1] // 2 :]
        inside = (log_std >= LOG_STD_MIN) & (log_std <= LOG_STD_MAX)
        return torch.cat([dl_du, (dl_du * deviation - dl_dlog_pi) * inside], dim=-1)


class TanhMLP(nn.Sequential):
    """Linear layers with tanh between them; orthogonal weights with gain sqrt(2), in the last layer with `gain`."""

    def __init__(self, sizes: Sequence[int], gain: float) -> None:
        linear = [nn.Linear(n, m) for n, m in itertools.pairwise(sizes)]
        for i, layer in enumerate(linear, start=1):
            nn.init.orthogonal_(layer.weight, gain if i == len(linear) else math.sqrt(2))
            nn.init.zeros_(layer.bias)
        super().__init__(*[module for layer in linear for module in (layer, nn.Tanh())][:-1])


class GaussianPolicy(nn.Module):
    """N(mu(s), sigma) with a sigma that is the same in all states. Samples know no bounds."""

    def __init__(self, obs_size: int, action_space: spaces.Box, hidden: Sequence[int]) -> None:
        super().__init__()
        self.mean = TanhMLP((obs_size, *hidden, math.prod(action_space.shape)), gain=0.01)
        self.log_std = nn.Parameter(torch.zeros(math.prod(action_space.shape)))

    def mode(self, obs: Tensor) -> Tensor:
        """(batch, obs_size) -> (batch, action)"""
        return self.mean(obs)

    def sample(self, obs: Tensor, gen: Generator) -> Tensor:
        mean = self.mean(obs)
        return torch.addcmul(mean, self.log_std.exp(), normal(mean.shape, gen, mean.device))

    def log_prob(self, obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """log pi(a | s) (batch,), and the entropy, the same for all states: ()."""
        z = (action.flatten(1) - self.mean(obs)) / self.log_std.exp()
        log_prob = (-0.5 * z.square() - self.log_std - HALF_LOG_2PI).sum(1)
        return log_prob, (0.5 + HALF_LOG_2PI + self.log_std).sum()


class CategoricalPolicy(nn.Module):
    """softmax(f(s)) over the actions 0, 1, …, n-1."""

    def __init__(self, obs_size: int, action_space: spaces.Discrete, hidden: Sequence[int]) -> None:
        super().__init__()
        self.logits = TanhMLP((obs_size, *hidden, int(action_space.n)), gain=0.01)

    def mode(self, obs: Tensor) -> Tensor:
        """(batch, obs_size) -> (batch,) int64"""
        return self.logits(obs).argmax(1)

    def sample(self, obs: Tensor, gen: Generator) -> Tensor:
        # argmax of log p + Gumbel noise is a draw from p; drawn on the CPU like all random numbers
        logits = self.logits(obs)
        return (logits - torch.empty(logits.shape).exponential_(generator=gen).log().to(logits.device)).argmax(1)

    def log_prob(self, obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """log pi(a | s) (batch,), and the mean entropy of the states: ()."""
        log_p = self.logits(obs).log_softmax(1)
        entropy = -(log_p.exp() * log_p).sum(1).mean()
        return log_p.gather(1, action.unsqueeze(1)).squeeze(1), entropy

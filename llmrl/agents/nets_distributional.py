"""Networks of Rainbow and CURL: values as distributions, and two convolutions more."""

from collections.abc import Sequence
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F

from llmrl.agents.nets import Layers, NatureCNN, Noise, QNetwork, flatten, run_stream


class DataEfficientCNN(NatureCNN):
    """The convolutions of data-efficient Rainbow (van Hasselt et al. 2019, arXiv 1906.05243) and CURL."""

    kernels = ((32, 5, 5), (64, 5, 5))


class PooledCNN(NatureCNN):
    """The convolutions of LLM-Explorer's Rainbow: same padding, the image is halved after all but the last."""

    kernels = ((32, 7, 1), (64, 5, 1), (64, 5, 1), (32, 5, 1), (3, 5, 1))

    def features(self, x: Tensor) -> Tensor:
        *pooled, last = self.layers
        for conv in pooled:
            x = F.max_pool2d(F.conv2d(x, conv.weight, conv.bias, padding="same").relu_(), 2)
        return F.conv2d(x, last.weight, last.bias, padding="same").relu_().flatten(1)


CONVOLUTIONS = {"nature": NatureCNN, "data_efficient": DataEfficientCNN, "pooled": PooledCNN}


class CategoricalQNetwork(QNetwork):
    """Logits of p_i(s, a), the probability that the return is z_i (Bellemare et al. 2017, arXiv 1707.06887): noisy, and
    dueling per atom, logit_i(s, a) = V_i + A_i(a) - mean_a A_i (Hessel et al. 2018, "Dueling")."""

    value: Layers[nn.Linear]
    z: Tensor  # (atoms,)

    def __init__(
        self,
        space: spaces.Space,
        n_actions: int,
        hidden: Sequence[int],
        *,
        atoms: int,
        v_min: float,
        v_max: float,
        sigma0: float,
        convolutions: str,
    ) -> None:
        cnn = CONVOLUTIONS[convolutions]
        super().__init__(space, n_actions, hidden, dueling=True, sigma0=sigma0, atoms=atoms, convolutions=cnn)
        self.atoms = atoms
        self.register_buffer("z", torch.linspace(v_min, v_max, atoms), persistent=False)

    def forward(self, obs: Any, noise: list[Noise] | None = None) -> Tensor:
        """(batch, *obs) -> logits (batch, n_actions, atoms)."""
        x = flatten(obs) if self.convolutions is None else self.convolutions(obs)
        advantage = run_stream(self.advantage, x, noise).unflatten(1, (-1, self.atoms))
        value = run_stream(self.value, x, noise and noise[len(self.advantage) :]).unsqueeze(1)
        return value + advantage - advantage.mean(1, keepdim=True)

    def expected(self, logits: Tensor) -> Tensor:
        """Q(s, a) = sum_i z_i p_i(s, a): (batch, n_actions, atoms) -> (batch, n_actions)."""
        return logits.softmax(-1) @ self.z


class ContrastiveHead(nn.Module):
    """CURL's projection of an encoding, and the bilinear form W that compares two of them."""

    def __init__(self, size_in: int, hidden: int, size: int) -> None:
        super().__init__()
        self.hidden, self.hidden_norm = nn.Linear(size_in, hidden), nn.LayerNorm(hidden)
        self.out, self.out_norm = nn.Linear(hidden, size), nn.LayerNorm(size)
        self.w = nn.Parameter(torch.rand(size, size))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, size_in) -> (batch, size)."""
        return self.out_norm(self.out(self.hidden_norm(self.hidden(x)).relu_()))

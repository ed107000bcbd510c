"""Networks of the agents, and the few tensor operations that their updates share.

All layers start as PyTorch's own default initialises them, as do stable-baselines3's DQN, DDPG and TD3.
"""

import copy
import inspect
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeGuard, TypeVar

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from llmrl.checks import ConfigError
from llmrl.global_generator import global_generator

# --- observations ---------------------------------------------------------------------------------------------------


def is_frames(space: spaces.Space) -> TypeGuard[spaces.Box]:
    """Whether observations are stacks of uint8 frames (stack, height, width), for convolutions and FrameReplay."""
    return isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) == 3


def vector_size(space: spaces.Space) -> int:
    """Numbers in one observation, a Box or a dict of Boxes."""
    parts = list(space.spaces.values()) if isinstance(space, spaces.Dict) else [space]
    boxes = [part for part in parts if isinstance(part, spaces.Box)]
    if len(boxes) < len(parts):
        raise ConfigError(f"observations must be a Box or a Dict of Boxes, this task has {space}: wrap the environment")
    return sum(math.prod(box.shape) for box in boxes)


def flatten(obs: Tensor | Mapping[str, Tensor]) -> Tensor:
    """(batch, *obs), or a dict of such tensors by sorted key -> (batch, vector_size)."""
    if isinstance(obs, Mapping):
        return torch.cat([obs[key].flatten(1) for key in sorted(obs)], dim=1)
    return obs if obs.dim() == 2 else obs.flatten(1)


def tensors(obs: Any, device: torch.device) -> Any:
    """An environment's arrays as tensors: uint8 as it is, all else float32."""
    if isinstance(obs, Mapping):
        return {key: tensors(value, device) for key, value in obs.items()}
    obs = np.asarray(obs)
    return torch.from_numpy(obs if obs.dtype == np.uint8 else obs.astype(np.float32)).to(device)


def flat_rows(obs: Any) -> NDArray:
    """(n, *obs), or a dict of such arrays by sorted key -> (n, vector_size) float32."""
    if isinstance(obs, Mapping):
        return np.concatenate([flat_rows(obs[key]) for key in sorted(obs)], axis=1)
    obs = np.asarray(obs, np.float32)
    return obs if obs.ndim == 2 else obs.reshape(len(obs), -1)


def weights(module: nn.Module) -> dict[str, Tensor]:
    """Copies: where parameters are views, a file would hold all that lies beside them."""
    return {name: value.clone() for name, value in module.state_dict().items()}


# --- random numbers -------------------------------------------------------------------------------------------------


@contextmanager
def initialised_by(gen: Generator) -> Iterator[None]:
    """Layers made inside take their initial weights from `gen`; the global generator is left as it was."""
    seed = int(torch.randint(2**62, (), generator=gen))
    with global_generator(seed):  # layers are made on the CPU, and moved afterwards
        yield


def normal(shape: Sequence[int], gen: Generator, device: torch.device) -> Tensor:
    """Standard normal numbers. Drawn on the CPU, so that one generator and one checkpoint serve every device."""
    return torch.randn(shape, generator=gen).to(device, non_blocking=True)


# --- updates --------------------------------------------------------------------------------------------------------


class Adam(torch.optim.Adam):
    """torch's own. Its methods are wrapped for torch.compile, and the first call of a wrapped one imports the compiler,
    which takes as long as importing torch: here they are as they were written."""

    grad_scale: Tensor  # what the fused step divides gradients by

    add_param_group = inspect.unwrap(torch.optim.Adam.add_param_group)
    state_dict = inspect.unwrap(torch.optim.Adam.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.Adam.load_state_dict)
    step = torch.no_grad()(inspect.unwrap(torch.optim.Adam.step))


class Optimizer:
    """Adam on a module's parameters: fused, without gradients of anything else, optionally with a clipped norm."""

    def __init__(
        self, module: nn.Module, learning_rate: float, max_grad_norm: float | None = None, *, eps: float = 1e-8
    ) -> None:
        self.parameters = list(module.parameters())
        self.max_grad_norm = max_grad_norm
        capturable = self.parameters[0].is_cuda  # by CUDA graphs
        self.adam = Adam(self.parameters, lr=learning_rate, eps=eps, fused=True, capturable=capturable)

    def step(self, loss: Tensor, gradient: Tensor | None = None) -> None:
        """One optimizer step on `loss`; or, with a `gradient`, on the loss whose gradient by the first argument it
        is."""
        gradients = torch.autograd.grad(loss, self.parameters, gradient)
        for parameter, its in zip(self.parameters, gradients):
            # the fused Adam takes gradients as they lie in memory: they have to lie as their parameters do
            parameter.grad = its if its.stride() == parameter.stride() else torch.empty_like(parameter).copy_(its)
        if self.max_grad_norm is not None:
            # clip_grad_norm_ would multiply by a factor, in a pass of its own: Adam's fused one divides by its inverse
            norm = nn.utils.get_total_norm(gradients)
            self.adam.grad_scale = ((norm + 1e-6) / self.max_grad_norm).clamp_(min=1)
        self.adam.step()


Network = TypeVar("Network", bound=nn.Module)


class Target(Generic[Network]):
    """A slow copy of a network."""

    def __init__(self, online: Network) -> None:
        self.online = online
        self.net = copy.deepcopy(online).requires_grad_(False)
        self.slow: list[Tensor] = list(self.net.parameters())
        self.fast: list[Tensor] = list(online.parameters())

    @torch.no_grad()
    def track(self, tau: float) -> None:
        """theta' <- (1 - tau) theta' + tau theta; buffers, which are statistics, are copied. tau = 1 copies all."""
        if tau == 1:
            torch._foreach_copy_(self.slow, self.fast)
        else:
            torch._foreach_lerp_(self.slow, self.fast, tau)
        for slow, fast in zip(self.net.buffers(), self.online.buffers()):
            slow.copy_(fast)


# --- networks -------------------------------------------------------------------------------------------------------


class Layers(nn.ModuleList, Generic[Network]):
    """A ModuleList whose modules are all of one type."""

    if TYPE_CHECKING:

        def __iter__(self) -> Iterator[Network]: ...


def lay_channels_last(module: nn.Module) -> None:
    """In memory, as CPUs and GPUs convolve fastest."""
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it


class MLP(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        self.layers: Layers[nn.Linear] = Layers(nn.Linear(n, m) for n, m in itertools.pairwise(sizes))

    def forward(self, x: Tensor) -> Tensor:
        *hidden, last = self.layers
        for layer in hidden:
            x = F.linear(x, layer.weight, layer.bias).relu_()
        return F.linear(x, last.weight, last.bias)


def middle_and_half_range(action_space: spaces.Box) -> tuple[NDArray, NDArray]:
    """Of each action, float32 (action,)."""
    low, high = (bound.astype(np.float32).ravel() for bound in (action_space.low, action_space.high))
    return (high + low) / 2, (high - low) / 2


class Actor(nn.Module):
    """mu(s) = middle + half_range * tanh(MLP(s)): deterministic actions inside a bounded Box."""

    middle: Tensor
    half_range: Tensor

    def __init__(self, obs_size: int, action_space: spaces.Box, hidden: Sequence[int]) -> None:
        super().__init__()
        self.shape = action_space.shape
        self.mlp = MLP((obs_size, *hidden, math.prod(self.shape)))
        middle, half_range = map(torch.from_numpy, middle_and_half_range(action_space))
        self.register_buffer("middle", middle, persistent=False)
        self.register_buffer("half_range", half_range, persistent=False)

    def forward(self, obs: Tensor) -> Tensor:
        """(batch, obs_size) -> (batch, action), environment units."""
        return torch.addcmul(self.middle, self.half_range, self.mlp(obs).tanh())


class Critics(nn.Module):
    """`n` independent Q networks Q_i(s, a); with further outputs where an agent's critics say more."""

    def __init__(self, n: int, obs_size: int, action_size: int, hidden: Sequence[int], outputs: int = 1) -> None:
        super().__init__()
        self.nets: Layers[MLP] = Layers(MLP((obs_size + action_size, *hidden, outputs)) for _ in range(n))

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:
        """(batch, obs_size), (batch, action) -> (n, batch)."""
        x = torch.cat([obs, action], dim=1)
        return torch.stack([net(x).squeeze(1) for net in self.nets])

    def first(self, obs: Tensor, action: Tensor) -> Tensor:
        """Q_1(s, a): (batch,)."""
        return self.nets[0](torch.cat([obs, action], dim=1)).squeeze(1)


Noise = tuple[Tensor, Tensor]  # of one noisy layer: f(eps) of its outputs and of its inputs


class NoisyLinear(nn.Linear):
    """y = (W + S * f(e_out) f(e_in)^T) x + b + s * f(e_out), f(e) = sign(e) sqrt(|e|); the noise is an argument.

    Factorised noise of Fortunato et al. 2018 (arXiv 1706.10295), section 3. W and b start as any linear layer's: the
    paper's own bound, 1 / sqrt(n_in), is PyTorch's too.
    """

    def __init__(self, n_in: int, n_out: int, sigma0: float) -> None:
        super().__init__(n_in, n_out)
        self.sigma_weight = nn.Parameter(torch.full_like(self.weight, sigma0 / math.sqrt(n_in)))
        self.sigma_bias = nn.Parameter(torch.full_like(self.bias, sigma0 / math.sqrt(n_in)))

    def forward(self, x: Tensor, noise: Noise | None = None) -> Tensor:
        if noise is None:
            return super().forward(x)
        f_out, f_in = noise
        weight = torch.addcmul(self.weight, self.sigma_weight, torch.outer(f_out, f_in))
        return F.linear(x, weight, torch.addcmul(self.bias, self.sigma_bias, f_out))


class NatureCNN(nn.Module):
    """The convolutions of Mnih et al. 2015: (batch, stack, height, width) uint8 -> (batch, size)."""

    kernels: tuple[tuple[int, int, int], ...] = ((32, 8, 4), (64, 4, 2), (64, 3, 1))  # channels, size, stride

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        channels = [shape[0], *(n for n, _, _ in self.kernels)]
        self.layers: Layers[nn.Conv2d] = Layers(
            nn.Conv2d(n, m, size, stride=stride) for n, (m, size, stride) in zip(channels, self.kernels)
        )
        lay_channels_last(self)
        with torch.no_grad():
            self.size = self(torch.zeros(1, *shape, dtype=torch.uint8)).shape[1]

    def forward(self, frames: Tensor) -> Tensor:
        return self.features(frames.to(torch.float32, memory_format=torch.channels_last).div_(255))

    def features(self, x: Tensor) -> Tensor:
        """(batch, stack, height, width) float32 -> (batch, size)."""
        for conv in self.layers:
            x = F.conv2d(x, conv.weight, conv.bias, conv.stride).relu_()
        return x.flatten(1)


class QNetwork(nn.Module):
    """Q(s, .): (batch, *obs) -> (batch, n_actions); a NatureCNN before the linear layers where observations are frames.

    With `dueling` (Wang et al. 2016, eq. 9) a value and an advantage stream, each with all linear layers:
    Q = V + A - mean_a A. With a `sigma0` all linear layers are noisy.
    """

    def __init__(
        self,
        space: spaces.Space,
        n_actions: int,
        hidden: Sequence[int],
        *,
        dueling: bool,
        sigma0: float | None,
        atoms: int = 1,
        convolutions: type[NatureCNN] = NatureCNN,
    ) -> None:
        """`atoms`: numbers per action, for subclasses whose values are distributions."""
        super().__init__()
        self.convolutions = convolutions(space.shape) if is_frames(space) else None
        self.noisy = sigma0 is not None
        size = vector_size(space) if self.convolutions is None else self.convolutions.size

        def stream(n_out: int) -> Layers[nn.Linear]:
            pairs = itertools.pairwise((size, *hidden, n_out))
            return Layers(nn.Linear(n, m) if sigma0 is None else NoisyLinear(n, m, sigma0) for n, m in pairs)

        self.advantage = stream(n_actions * atoms)  # without dueling these are the Q values
        self.value = stream(atoms) if dueling else None

    @property
    def noise_sizes(self) -> list[int]:
        """Of the outputs and the inputs of every layer with noise."""
        layers = (*self.advantage, *(self.value or ())) if self.noisy else ()
        return [n for layer in layers for n in layer.weight.shape]

    def shaped(self, eps: Tensor) -> list[Noise] | None:
        """Standard normal numbers, sum(noise_sizes) -> the noise of one forward pass; None where no layer has any."""
        if not self.noisy:
            return None
        f = (eps.sign() * eps.abs().sqrt()).split(self.noise_sizes)
        return list(zip(f[::2], f[1::2]))

    def draw(self, gen: Generator, device: torch.device) -> list[Noise] | None:
        """Fresh noise for one forward pass."""
        return self.shaped(normal((sum(self.noise_sizes),), gen, device)) if self.noisy else None

    def forward(self, obs: Any, noise: list[Noise] | None = None) -> Tensor:
        x = flatten(obs) if self.convolutions is None else self.convolutions(obs)
        advantage = run_stream(self.advantage, x, noise)
        if self.value is None:
            return advantage
        value = run_stream(self.value, x, noise and noise[len(self.advantage) :])
        return value + advantage - advantage.mean(1, keepdim=True)


def run_stream(layers: Layers[nn.Linear], x: Tensor, noise: list[Noise] | None) -> Tensor:
    """Linear or noisy layers with ReLU between them."""
    last = len(layers) - 1
    for i, layer in enumerate(layers):
        x = F.linear(x, layer.weight, layer.bias) if noise is None else layer(x, noise[i])
        if i < last:
            x = x.relu_()
    return x


class Differentiated:
    """A QNetwork behind the methods of Perceptrons, for one seed; its gradients are autograd's."""

    def __init__(
        self, net: QNetwork, *, learning_rate: float | None = None, max_grad_norm: float | None = None
    ) -> None:
        self.net = net
        self.optimizer = None if learning_rate is None else Optimizer(net, learning_rate, max_grad_norm)

    @property
    def adam(self) -> Adam:
        assert self.optimizer is not None, "a target network does not learn"
        return self.optimizer.adam

    def forward(self, obs: Tensor, noise: Tensor | None = None) -> Tensor:
        """(1, batch, *obs), standard normal numbers (1, n) -> (1, batch, n_actions)"""
        with torch.set_grad_enabled(self.optimizer is not None):
            self.out = self.net(obs[0], None if noise is None else self.net.shaped(noise[0]))
        return self.out[None]

    def backward(self, gradient: Tensor) -> None:
        """dL/d(output) of the last `forward`."""
        self.gradient = gradient[0]

    def step(self) -> None:
        assert self.optimizer is not None, "a target network does not learn"
        self.optimizer.step(self.out, self.gradient)
        del self.out

    def track(self, online: "Differentiated", tau: float) -> None:
        """theta' <- (1 - tau) theta' + tau theta"""
        torch._foreach_lerp_(list(self.net.parameters()), [p.detach() for p in online.net.parameters()], tau)

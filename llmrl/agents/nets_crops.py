"""Encoders of ExploRLLM: what SAC's actor and critics see of six object crops, or of the whole image.

Sizes: ExploRLLM's own code (docs/papers/explorllm.md).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F

from llmrl.agents.nets import lay_channels_last
from llmrl.checks import ConfigError

LANES = 8  # CPUs convolve eight channels as fast as six, and normalise and pool them three times as fast
FEATURES = 32  # numbers that an encoder returns


@dataclass(frozen=True)
class Seen:
    """A batch of observations as the encoders want it: made once, used by all of them."""

    pixels: Tensor  # (batch * crops, 4, height, width) float32, channels last: RGB in 0 … 1, and height
    vectors: Tensor  # crops: (batch, 6, numbers per object); whole image: (batch, numbers)

    def __len__(self) -> int:
        return len(self.vectors)


def see(obs: Mapping[str, Tensor]) -> Seen:
    """A dict of batches of "rgb", "height", "in_hand", perhaps "goal", and with crops "position" -> Seen."""
    rgb, height = obs["rgb"], obs["height"]
    pixels = torch.empty((height.shape[:-2].numel(), *height.shape[-2:], 4), device=height.device)
    for colour in range(3):  # one by one: torch copies three neighbours out of four slowly
        torch.div(rgb[..., colour].flatten(0, -3), 255, out=pixels[..., colour])
    pixels[..., 3] = height.flatten(0, -3)
    shared = [obs[key] for key in ("in_hand", "goal") if key in obs]
    if "position" not in obs:
        return Seen(pixels.permute(0, 3, 1, 2), torch.cat(shared, dim=1))
    batch, objects, _ = obs["position"].shape
    each = [part.unsqueeze(1).expand(-1, objects, -1) for part in shared]
    index = torch.arange(objects, dtype=torch.float32, device=height.device).expand(batch, -1).unsqueeze(2)
    return Seen(pixels.permute(0, 3, 1, 2), torch.cat([obs["position"], *each, index], dim=2))


def encoder(space: spaces.Space, attention: str) -> nn.Module:
    """A new encoder for these observations. Raises ConfigError where they hold no image."""
    shapes = {key: part.shape or () for key, part in space.items()} if isinstance(space, spaces.Dict) else {}
    if not {"rgb", "height", "in_hand"} <= shapes.keys():
        raise ConfigError(
            f"SACCrops needs observations with rgb, height and in_hand, this task has {space}: use agent=sac"
        )
    goal = shapes["goal"][0] if "goal" in shapes else 0
    if "position" not in shapes:
        return ImageEncoder(1 + goal)
    return CropEncoder(shapes["position"][0], 2 + 1 + goal + 1, attention)


class Block(nn.Module):
    """Convolution, batch norm, ReLU, and 2 x 2 maxima; channels are filled up with zeros to a multiple of LANES."""

    def __init__(self, n_in: int, n_out: int, size: int, *, padding: int = 0, pool: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(n_in, n_out, size, stride=2, padding=padding)
        self.norm = nn.BatchNorm2d(n_out)
        self.more, self.pool = -n_out % LANES, pool
        lay_channels_last(self)  # as its gradient will lie, which the fused Adam takes for granted

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, height, width), of which those after the first n_in are zero -> the same with n_out."""
        conv = self.conv
        assert conv.bias is not None
        weight = F.pad(conv.weight, (0, 0, 0, 0, 0, x.shape[1] - conv.in_channels, 0, self.more))
        x = F.conv2d(x, weight, self.filled(conv.bias), conv.stride, conv.padding)
        x = self.normalise(x)
        if self.pool:
            x = F.max_pool2d(x, 2)  # before the ReLU: the same numbers, on a quarter of the pixels
        return x.relu_()

    def normalise(self, x: Tensor) -> Tensor:
        """By the batch's statistics, which move the running ones, while training; else by the running ones."""
        norm = self.norm
        assert norm.running_mean is not None and norm.running_var is not None and norm.momentum is not None
        mean, variance = self.filled(norm.running_mean), self.filled(norm.running_var)
        weight, bias = self.filled(norm.weight), self.filled(norm.bias)
        x = F.batch_norm(x, mean, variance, weight, bias, self.training, norm.momentum, norm.eps)
        if self.training:
            norm.running_mean.copy_(mean[: norm.num_features])
            norm.running_var.copy_(variance[: norm.num_features])
        return x

    def filled(self, x: Tensor) -> Tensor:
        return F.pad(x, (0, self.more))


class Attention(nn.Module):
    """One head of self-attention (Vaswani et al. 2017, arXiv 1706.03762, eq. 1) over the objects of a scene."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(size, size, bias=False) for _ in range(3))
        self.out = nn.Linear(size, size)

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, objects, size) -> the same"""
        query, key, value = self.query(tokens), self.key(tokens), self.value(tokens)
        # softmax(Q K^T / sqrt(size)) V
        weights = (query @ key.transpose(1, 2) / tokens.shape[2] ** 0.5).softmax(2)
        return self.out(weights @ value)


class AuthorsAttention(nn.Module):
    """The authors' layer: its softmax runs over the one head, so that all weights are 1 and no object sees another.

    What is left of attention is a linear map of each token; query and key would never get a gradient.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.value, self.out = nn.Linear(size, size, bias=False), nn.Linear(size, size)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.out(self.value(tokens))


ATTENTION = {"none": lambda size: nn.Identity(), "true": Attention, "authors": AuthorsAttention}


class CropEncoder(nn.Module):
    """Each object's crop (4, 28, 28) becomes 12 numbers by shared weights, and with what else is known of the object a
    token; attention over the tokens, then linear layers over all of them."""

    def __init__(self, objects: int, numbers: int, attention: str) -> None:
        """`numbers`: known of each object beside its crop."""
        super().__init__()
        self.first, self.second = Block(4, 6, 5), Block(6, 12, 4)
        self.crop = nn.Linear(12, 12)
        size = 12 + numbers
        self.attention = ATTENTION[attention](size)
        self.all = nn.Linear(objects * size, objects * size)
        self.out = nn.Linear(objects * size, FEATURES)

    def forward(self, seen: Seen) -> Tensor:
        """-> (batch, FEATURES)"""
        crops = self.second(self.first(seen.pixels))[:, :12].flatten(1)  # 28 -> 12 -> 6 -> 2 -> 1 pixel
        crops = self.crop(crops).relu_().unflatten(0, seen.vectors.shape[:2])
        tokens = self.attention(torch.cat([crops, seen.vectors], dim=2))
        return self.out(self.all(tokens.flatten(1)).relu_()).relu_()


class ImageEncoder(nn.Module):
    """The whole image (4, 112, 112), for the baseline without objects.

    Smaller than the authors' early one, a residual network of 16, 32, 64, 128 channels: four plain convolutions of 8,
    16, 32, 64 that halve the image, and the mean over what is left of it.
    """

    def __init__(self, numbers: int) -> None:
        super().__init__()
        channels = (4, 8, 16, 32, 64)
        self.blocks = nn.Sequential(*(Block(n, m, 3, padding=1, pool=False) for n, m in zip(channels, channels[1:])))
        self.out = nn.Linear(channels[-1] + numbers, FEATURES)

    def forward(self, seen: Seen) -> Tensor:
        """-> (batch, FEATURES)"""
        pixels = self.blocks(seen.pixels).mean((2, 3))
        return self.out(torch.cat([pixels, seen.vectors], dim=1)).relu_()


class Encoded(nn.Module):
    """An actor or critics behind an encoder of their own."""

    def __init__(self, encoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, seen: Seen, *args: Tensor | None) -> Tensor | tuple[Tensor, Tensor | None]:
        """What the head makes of (batch, FEATURES) and the rest: a policy's noise, or critics' actions."""
        return self.head(self.encoder(seen), *args)

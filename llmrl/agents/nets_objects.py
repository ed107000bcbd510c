"""What SAC's networks see of a scene of objects: tokens of some of them, each made of a crop and of what is known."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F

from llmrl.agents.nets import lay_channels_last
from llmrl.checks import ConfigError

FEATURES = 32  # numbers that a crop becomes
CROP = 28  # pixels of a crop's side
RESIDUAL = 2  # numbers of an action's offset
PER_FRAME, FARTHEST = 8.0, 2.0  # units in which a partner's place is seen: half crops in a frame, and how many at most


@dataclass(frozen=True)
class Layout:
    """How many objects a scene has, and whether it has a goal: a letter (one of the first half) and a bowl."""

    objects: int
    goal: bool

    @classmethod
    def of(cls, observation_space: spaces.Space, action_space: spaces.Box) -> "Layout":
        """Raises ConfigError where observations hold no crops, or actions name no object."""
        parts = observation_space.spaces if isinstance(observation_space, spaces.Dict) else {}
        if not {"position", "rgb", "height", "in_hand"} <= parts.keys():
            raise ConfigError(
                "SACObjects needs observations with position, rgb, height and in_hand (env.observation=crops), this "
                f"task has {observation_space}: use agent=sac_crops, or agent=sac for vectors"
            )
        objects = (parts["position"].shape or ())[0]
        if action_space.shape != (1 + objects + RESIDUAL,):
            raise ConfigError(
                f"SACObjects needs actions that name an object: a primitive, a score of each of the {objects} objects "
                f"and an offset (env.actions=residual), this task has {action_space}: use agent=sac_crops"
            )
        return cls(objects, "goal" in parts)

    @property
    def known_size(self) -> int:
        """Numbers that are known of an object beside its crop."""
        return 4 if self.goal else 5

    @property
    def token_size(self) -> int:
        return FEATURES + self.known_size

    @property
    def shared_size(self) -> int:
        """Numbers that are known of the whole scene."""
        return 1 + (2 * self.objects if self.goal else self.objects)


@dataclass(frozen=True)
class Scenes:
    """A batch of observations, made ready once for all networks."""

    rgb: Tensor  # (batch * objects, height, width, 3) uint8
    height: Tensor  # (batch * objects, height, width)
    # (batch, objects, known_size): position, and: goal's letter? goal's bowl? or else where from it its partner is, a
    # letter's bowl or a bowl's letter, and: a letter?
    known: Tensor
    # (batch, shared_size): in hand, and which objects are the goal's or else where from each letter its bowl is
    shared: Tensor
    in_hand: Tensor  # (batch,) 1 where the hand holds something, else 0
    goal: Tensor  # (batch, 2) numbers of the goal's letter and bowl; (batch, 0) where there is no goal

    def __len__(self) -> int:
        return len(self.known)


def scenes(obs: Mapping[str, Tensor]) -> Scenes:
    """A dict of batches of "position", "rgb", "height", "in_hand", perhaps "goal" -> Scenes.

    Without a goal every letter has a bowl, so that what to do with an object depends on where its partner is.
    """
    position = obs["position"]
    batch, objects, _ = position.shape
    number = torch.arange(objects, device=position.device)
    if "goal" in obs:
        goal = obs["goal"].long()
        goal = torch.stack([goal[:, 0], goal[:, 1] + objects // 2], dim=1)
        marks = (number[:, None] == goal[:, None, :]).float()  # (batch, objects, 2)
        shared = marks.flatten(1)
    else:
        goal = number.new_empty(batch, 0)
        letters, bowls = position.chunk(2, dim=1)
        to_bowl = ((bowls - letters) * PER_FRAME).clamp(-FARTHEST, FARTHEST)
        is_letter = (number < objects // 2).float().view(1, -1, 1).expand(batch, -1, -1)
        marks = torch.cat([torch.cat([to_bowl, -to_bowl], dim=1), is_letter], dim=2)
        shared = to_bowl.flatten(1)
    return Scenes(
        obs["rgb"].flatten(0, 1),
        obs["height"].flatten(0, 1),
        torch.cat([position, marks], dim=2),
        torch.cat([obs["in_hand"], shared], dim=1),
        obs["in_hand"][:, 0],
        goal,
    )


def pixels(seen: Scenes, index: Tensor) -> Tensor:
    """Crops of the objects (batch, k) -> (batch * k, 4, height, width), channels last: RGB in 0 … 1, and height."""
    objects = seen.known.shape[1]
    rows = torch.arange(len(seen), device=index.device).unsqueeze(1) * objects + index
    rgb, height = (part.index_select(0, rows.flatten()) for part in (seen.rgb, seen.height))
    both = torch.empty((*height.shape, 4), device=height.device)
    both[..., :3] = rgb.float().div_(255)  # by way of neighbours: torch converts three out of four slowly
    both[..., 3] = height
    return both.permute(0, 3, 1, 2)


def known(seen: Scenes, index: Tensor) -> Tensor:
    """What is known of the objects (batch, k) -> (batch, k, known_size)."""
    return seen.known.gather(1, index.unsqueeze(2).expand(-1, -1, seen.known.shape[2]))


class RunningNorm(nn.Module):
    """Batch normalisation by running statistics, in training as in acting: what is seen of a crop does not depend on
    which others are in the batch, so that encodings can be shared. `follow` moves the statistics."""

    mean: Tensor
    variance: Tensor
    count: Tensor

    def __init__(self, channels: int, momentum: float = 0.05) -> None:
        super().__init__()
        self.momentum = momentum
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        for name, value in (("mean", torch.zeros(channels)), ("variance", torch.ones(channels))):
            self.register_buffer(name, value)
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, height, width) -> the same"""
        if self.training:
            self.follow(x.detach())
        # the statistics are copied, since they move before the gradient is computed
        return F.batch_norm(x, self.mean.clone(), self.variance.clone(), self.weight, self.bias, training=False)

    def follow(self, x: Tensor) -> None:
        """At first by the mean of all batches so far."""
        self.count += 1
        variance, mean = torch.var_mean(x, (0, 2, 3))
        share = (1 / self.count).clamp_(min=self.momentum)
        self.mean.lerp_(mean, share)
        self.variance.lerp_(variance, share)


class CNN(nn.Module):
    """The authors' two convolutions (docs/papers/explorllm.md) with 8 and 16 channels, which cost what 6 and 12 do."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 8, 5, stride=2), nn.Conv2d(8, 16, 4, stride=2)
        self.first_norm, self.second_norm = RunningNorm(8), RunningNorm(16)
        self.out = nn.Linear(16, FEATURES)
        lay_channels_last(self)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 4, 28, 28) -> (n, FEATURES)"""
        for conv, norm in ((self.first, self.first_norm), (self.second, self.second_norm)):
            x = norm(F.conv2d(x, conv.weight, conv.bias, conv.stride))
            x = F.max_pool2d(x, 2).relu_()  # before the ReLU: the same numbers, on a quarter of the pixels
        return self.out(x.flatten(1)).relu_()  # 28 -> 12 -> 6 -> 2 -> 1 pixel


class Means(nn.Module):
    """Means of 2 x 2 pixels, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = RunningNorm(4)
        self.out = nn.Linear(4 * (CROP // 2) ** 2, FEATURES)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 4, 28, 28) -> (n, FEATURES)"""
        x = self.norm(F.avg_pool2d(x, 2))
        return self.out(x.permute(0, 2, 3, 1).flatten(1)).relu_()


ENCODERS: dict[str, type[nn.Module]] = {"cnn": CNN, "means": Means}

"""CURL (Laskin et al. 2020, arXiv 2004.04136): Rainbow whose encoder also learns to tell observations apart."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from llmrl.agents import rainbow
from llmrl.agents.configs import CURLConfig as Config
from llmrl.agents.nets import Target, initialised_by, is_frames
from llmrl.agents.nets_distributional import ContrastiveHead
from llmrl.checks import ConfigError
from llmrl.contracts.replay import Batch


class CURL(rainbow.Rainbow):
    """Rainbow, a projection head, and a slow copy of encoder and head that makes the keys."""

    config: Config

    def __init__(self, config: Config, observation_space: Any, *args: Any, **kwargs: Any) -> None:
        if not is_frames(observation_space):
            raise ConfigError(f"CURL learns from frames, this task observes {observation_space}: use agent=rainbow")
        super().__init__(config, observation_space, *args, **kwargs)
        encoder = self.q.convolutions
        assert encoder is not None  # it observes frames
        with initialised_by(self.gen):
            self.head = ContrastiveHead(encoder.size, config.contrastive_hidden, config.contrastive_size).to(
                self.device
            )
        self.optimizer = self._optimizer(nn.ModuleList([self.q, self.head]))
        self.encoder = encoder
        self.momentum = Target(nn.ModuleList([encoder, self.head]))

    def noise(self, n: int) -> tuple[Any, ...]:
        """Rainbow's, and where the two views of each observation are cropped."""
        return *super().noise(n), *(random_places(n, self.config.shift, self.gen) for _ in range(2))

    def learn(self, batch: Batch, noise: Any, *, due: bool) -> Mapping[str, Tensor]:
        out = super().learn(batch, noise, due=due)
        self.momentum.track(self.config.encoder_tau)
        return out

    def losses(self, batch: Batch, noise: Any) -> tuple[Tensor, dict[str, Tensor]]:
        loss, metrics = super().losses(batch, noise)
        contrastive = self._contrastive(batch.obs, *noise[3:])
        metrics["contrastive"] = contrastive.detach().mean()
        return loss + self.config.contrastive_weight * contrastive, metrics

    def _contrastive(self, frames: Tensor, anchors: Tensor, keys: Tensor) -> Tensor:
        """InfoNCE (batch,): which of the keys is another crop of the same observation?"""
        anchor = self.head(self.encoder(shifted(frames, self.config.shift, anchors)))
        with torch.no_grad():
            encoder, head = self.momentum.net
            key = head(encoder(shifted(frames, self.config.shift, keys)))
        # logits_ij = scale * anchor_i^T W key_j, of which j = i is right
        logits = self.config.contrastive_scale * (anchor @ (self.head.w @ key.T))
        return F.cross_entropy(logits, torch.arange(len(frames), device=self.device), reduction="none")

    def state_dict(self) -> dict:
        return super().state_dict() | {"head": self.head.state_dict(), "momentum": self.momentum.net.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        super().load_state_dict(state)
        self.head.load_state_dict(state["head"])
        self.momentum.net.load_state_dict(state["momentum"])


AGENT = CURL


def random_places(batch: int, pixels: int, gen: Generator) -> Tensor:
    """Where both crops of `shifted` begin: (2 crops, 2 axes, batch, 1)"""
    return torch.randint(pixels + 1, (2, 2, batch, 1), generator=gen)


def shifted(frames: Tensor, pixels: int, places: Tensor) -> Tensor:
    """Each stack of frames (batch, stack, height, width) cropped at random to `pixels` less in height and width, padded
    by `pixels` with what is at its edge, and cropped at random to its first size: CURL's augmentation."""
    batch, stack, *size = frames.shape
    first, second = places  # cropped and padded, an image is `pixels` larger than at first

    def source(axis: int) -> Tensor:
        """(batch, length): where in the original a row or column of the result comes from."""
        length = size[axis]
        at = torch.arange(length, device=frames.device)
        return (at + second[axis] - pixels).clamp_(0, length - pixels - 1) + first[axis]

    rows, columns = source(0), source(1)
    which = torch.arange(batch, device=frames.device)[:, None, None, None]
    channel = torch.arange(stack, device=frames.device)[:, None, None]
    return frames[which, channel, rows[:, None, :, None], columns[:, None, None, :]]

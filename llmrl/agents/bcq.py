"""BCQ for discrete actions (Fujimoto et al. 2019, arXiv 1910.01708): Q-learning among actions that the data support."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from llmrl.agents import offline
from llmrl.agents.nets import Optimizer, Target, flatten, initialised_by, vector_size
from llmrl.checks import Count, HalfOpenUnit, NonNegative, Positive, Probability
from llmrl.contracts.replay import Batch


@dataclass(frozen=True)
class Config:
    """See conf/agent/bcq.yaml."""

    hidden: tuple[Count, ...]
    activation: offline.Activation
    learning_rate: Positive
    threshold: HalfOpenUnit
    beta: NonNegative
    gamma: Probability
    discount: offline.Discount
    target_update_every: Count
    batch_size: Count
    evaluate: offline.Evaluate


class BCQ(offline.TransitionAgent):
    """One network with two heads: Q(s, .), and G(. | s), which imitates the data and rules actions out. A copy of it
    gives the targets, and is renewed every `target_update_every` updates."""

    config: Config

    def __init__(self, config: Config, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        sizes = (vector_size(self.observation_space), *config.hidden, 2 * int(self.action_space.n))
        with initialised_by(self.gen):
            self.net = offline.mlp(sizes, config.activation).to(self.device)
        self.target = Target(self.net)
        self.optimizer = Optimizer(self.net, config.learning_rate)

    @property
    def discount(self) -> float:
        return self.config.gamma if self.config.discount == "gamma" else 1.0

    def scores(self, obs: Any) -> Tensor:
        """Q(s, a) where G(a | s) / max_a' G(a' | s) > threshold, elsewhere minus infinity."""
        q, log_g = self._heads(flatten(obs))
        ruled_out = log_g - log_g.amax(1, keepdim=True) <= math.log(self.config.threshold)
        return q.masked_fill(ruled_out, -math.inf)

    def _heads(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """(n, obs) -> Q(s, .) and log G(. | s), each (n, n_actions)"""
        q, logits = self.net(obs).chunk(2, dim=1)
        return q, F.log_softmax(logits, dim=1)

    def update(self, batch: Batch) -> Mapping[str, Tensor]:
        self.updates += 1
        with torch.no_grad():
            # y = r + gamma (1 - d) Q'(s', a'), a' = the allowed action with the largest Q(s', a')
            best = self.scores(batch.next_obs).argmax(1, keepdim=True)
            next_q, _ = self.target.net(flatten(batch.next_obs)).chunk(2, dim=1)
            y = batch.reward + batch.discount * (1 - batch.terminated) * next_q.gather(1, best).squeeze(1)

        # minimise Huber(Q(s, a) - y) - log G(a | s) + beta mean over a' of log G(a' | s)^2, the last two as in BC
        values, log_g = self._heads(flatten(batch.obs))
        q = values.gather(1, batch.action.unsqueeze(1)).squeeze(1)
        td_loss = F.huber_loss(q, y)
        imitator_loss = F.nll_loss(log_g, batch.action) + self.config.beta * log_g.square().mean()
        loss = td_loss + imitator_loss
        self.optimizer.step(loss)

        if self.updates % self.config.target_update_every == 0:
            self.target.track(1.0)
        return {
            "loss": loss.detach(),
            "td_loss": td_loss.detach(),
            "imitator_loss": imitator_loss.detach(),
            "q": q.detach().mean(),
        }

    def state_dict(self) -> dict:
        return {
            "net": self.net.state_dict(),
            "target": self.target.net.state_dict(),
            "adam": self.optimizer.adam.state_dict(),
            "updates": self.updates,
        }

    def load_state_dict(self, state: dict) -> None:
        self.net.load_state_dict(state["net"])
        self.target.net.load_state_dict(state["target"])
        self.optimizer.adam.load_state_dict(state["adam"])
        self.updates = state["updates"]


AGENT = BCQ

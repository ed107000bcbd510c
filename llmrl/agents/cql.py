"""CQL for discrete actions (Kumar et al. 2020, arXiv 2006.04779): double DQN with values pushed down off the data."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from llmrl.agents import offline
from llmrl.agents.nets import Optimizer, Target, flatten, initialised_by, vector_size
from llmrl.checks import Count, NonNegative, Positive, Probability
from llmrl.contracts.replay import Batch


@dataclass(frozen=True)
class Config:
    """See conf/agent/cql.yaml."""

    hidden: tuple[Count, ...]
    activation: offline.Activation
    learning_rate: Positive
    alpha: NonNegative
    gamma: Probability
    discount: offline.Discount
    target_update_every: Count
    batch_size: Count
    evaluate: offline.Evaluate


class CQL(offline.TransitionAgent):
    """One network Q(s, .), and a copy of it that is renewed every `target_update_every` updates."""

    config: Config

    def __init__(self, config: Config, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        sizes = (vector_size(self.observation_space), *config.hidden, int(self.action_space.n))
        with initialised_by(self.gen):
            self.q = offline.mlp(sizes, config.activation).to(self.device)
        self.target = Target(self.q)
        self.optimizer = Optimizer(self.q, config.learning_rate)

    @property
    def discount(self) -> float:
        return self.config.gamma if self.config.discount == "gamma" else 1.0

    def scores(self, obs: Any) -> Tensor:
        """Q(s, .); its softmax is the policy of which the conservative term below is the maximum-entropy optimum."""
        return self.q(flatten(obs))

    def update(self, batch: Batch) -> Mapping[str, Tensor]:
        self.updates += 1
        with torch.no_grad():
            # y = r + gamma (1 - d) Q'(s', argmax_a' Q(s', a'))
            best = self.q(flatten(batch.next_obs)).argmax(1, keepdim=True)
            next_value = self.target.net(flatten(batch.next_obs)).gather(1, best).squeeze(1)
            y = batch.reward + batch.discount * (1 - batch.terminated) * next_value

        # minimise Huber(Q(s, a) - y) + alpha (log sum_a' exp Q(s, a') - Q(s, a)): equation 4, CQL(H)
        values = self.scores(batch.obs)
        q = values.gather(1, batch.action.unsqueeze(1)).squeeze(1)
        td_loss = F.huber_loss(q, y)
        conservative_loss = F.cross_entropy(values, batch.action)  # is log sum_a' exp Q(s, a') - Q(s, a)
        loss = td_loss + self.config.alpha * conservative_loss
        self.optimizer.step(loss)

        if self.updates % self.config.target_update_every == 0:
            self.target.track(1.0)
        return {
            "loss": loss.detach(),
            "td_loss": td_loss.detach(),
            "conservative_loss": conservative_loss.detach(),
            "q": q.detach().mean(),
        }

    def state_dict(self) -> dict:
        return {
            "q": self.q.state_dict(),
            "target": self.target.net.state_dict(),
            "adam": self.optimizer.adam.state_dict(),
            "updates": self.updates,
        }

    def load_state_dict(self, state: dict) -> None:
        self.q.load_state_dict(state["q"])
        self.target.net.load_state_dict(state["target"])
        self.optimizer.adam.load_state_dict(state["adam"])
        self.updates = state["updates"]


AGENT = CQL

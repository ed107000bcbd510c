"""Behavioural cloning of discrete actions: maximum likelihood, with a penalty that keeps the policy from certainty."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from llmrl.agents import offline
from llmrl.agents.configs import BCConfig as Config
from llmrl.agents.nets import flatten, initialised_by, vector_size, weights
from llmrl.agents.perceptrons import Perceptrons
from llmrl.contracts.replay import Batch


class BC(offline.TransitionAgent):
    """pi(. | s) = softmax of a network's logits."""

    config: Config

    def __init__(self, config: Config, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        sizes = (vector_size(self.observation_space), *config.hidden, int(self.action_space.n))
        with initialised_by(self.gen):
            self.policy = offline.mlp(sizes, config.activation).to(self.device)
        self.logits = Perceptrons(
            [self.policy.layers], learning_rate=config.learning_rate, activation=config.activation
        )

    def scores(self, obs: Any) -> Tensor:
        return self.policy(flatten(obs))

    @torch.no_grad()
    def learn(self, batch: Batch, noise: Any, *, due: bool) -> Mapping[str, Tensor]:
        log_pi = F.log_softmax(self.logits.forward(flatten(batch.obs)[None])[0], dim=1)
        # minimise -log pi(a | s) + beta mean over a' of log pi(a' | s)^2: d3rlpy's penalty is on the log-probabilities
        nll, gradient = offline.imitation(log_pi, batch.action, self.config.beta)
        loss = nll + self.config.beta * log_pi.square().mean()
        self.logits.backward(gradient[None])
        self.logits.step()
        return {"loss": loss, "nll": nll, "agreement": (log_pi.argmax(1) == batch.action).float().mean()}

    def state_dict(self) -> dict:
        return {
            "policy": weights(self.policy),
            "adam": self.logits.adam.state_dict(),
            "updates": self.updates,
        }

    def load_state_dict(self, state: dict) -> None:
        self.policy.load_state_dict(state["policy"])
        self.logits.adam.load_state_dict(state["adam"])
        self.updates = state["updates"]


AGENT = BC

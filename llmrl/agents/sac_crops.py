"""ExploRLLM's SAC (Ma et al. 2025, arXiv 2403.09583): actor and critics see object crops through encoders.

All but the encoders is SAC. Their BatchNorm is as in stable-baselines3: every pass of actor and critics in an update
normalises by its own batch and moves the running statistics (the critics' twice: for their own loss, and as they are
after it for the actor's); the target normalises by copies of the critics' running ones; acting by the actor's.
"""

from collections.abc import Mapping
from typing import Any

import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Generator, Tensor

from llmrl.agents import sac
from llmrl.agents.configs import SACCropsConfig as Config
from llmrl.agents.nets import Critics, Optimizer, Target, initialised_by, normal, tensors
from llmrl.agents.nets_crops import FEATURES, Encoded, encoder, see
from llmrl.agents.nets_gaussian import SquashedGaussian
from llmrl.contracts.replay import Batch
from llmrl.replay.crops import CropReplay
from llmrl.replay.ring import Sampling


class SACCrops(sac.SAC):
    """SAC whose actor and critics begin with an encoder each."""

    config: Config
    observation_space: spaces.Dict

    def make_networks(self) -> None:
        attention, hidden, space = self.config.attention, self.config.hidden, self.observation_space
        with initialised_by(self.gen):
            actor = Encoded(encoder(space, attention), SquashedGaussian(FEATURES, self.action_size, hidden))
            critics = Encoded(encoder(space, attention), Critics(2, FEATURES, self.action_size, hidden))
            self.actor, self.critic = actor.to(self.device), critics.to(self.device)
        self.target = Target(self.critic)
        self.target_critic = self.target.net.eval()
        rate = self.config.learning_rate
        self.actor_optimizer, self.critic_optimizer = Optimizer(self.actor, rate), Optimizer(self.critic, rate)

    def act(self, obs: Any, *, explore: bool, gen: Generator) -> NDArray:
        self.actor.eval()
        with torch.inference_mode():
            x = see(tensors(obs, self.device))
            sample = explore or self.config.evaluate == "sample"
            eps = normal((len(x), self.action_size), gen, self.device) if sample else None
            action, _ = self.actor(x, eps)
            action = torch.addcmul(self.middle, self.half_range, action)
        return action.cpu().numpy().reshape(-1, *self.action_space.shape)

    def update(self, batch: Batch) -> Mapping[str, Tensor]:
        self.actor.train()
        return super().update(batch)

    def learn(self, batch: Batch, noise: Any, *, due: bool) -> Mapping[str, Tensor]:
        """SAC's, with autograd. No gradient is computed for what a loss does not train: not for the critics' encoder in
        the actor's."""
        eps, next_eps = noise
        obs, next_obs = see(batch.obs), see(batch.next_obs)
        action = (batch.action.flatten(1) - self.middle) / self.half_range
        new_action, log_pi = self.actor(obs, eps)
        alpha = self.temperature.weights.exp()
        if self.config.learn_temperature:
            self.learn_temperature(log_pi.detach()[None])

        with torch.no_grad():
            # y = r + gamma (1 - d) (min_i Q'_i(s', a') - alpha log pi(a' | s')),  a' ~ pi(. | s')
            next_action, next_log_pi = self.actor(next_obs, next_eps)
            next_value = self.target_critic(next_obs, next_action).amin(0) - alpha * next_log_pi
            y = batch.reward + batch.discount * (1 - batch.terminated) * next_value

        # minimise 1/2 (Q_1(s, a) - y)^2 + 1/2 (Q_2(s, a) - y)^2
        q = self.critic(obs, action)
        critic_loss = 0.5 * (q - y).square().mean(1).sum()
        self.critic_optimizer.step(critic_loss)

        # minimise alpha log pi(a | s) - min_i Q_i(s, a),  a ~ pi(. | s)
        actor_loss = (alpha * log_pi - self.critic(obs, new_action).amin(0)).mean()
        self.actor_optimizer.step(actor_loss)

        self.target.track(self.config.tau)
        metrics = {"critic_loss": critic_loss, "actor_loss": actor_loss, "q": q.mean(), "entropy": -log_pi.mean()}
        return {name: value.detach() for name, value in metrics.items()} | {"temperature": alpha.sum()}

    def adams(self) -> dict[str, Any]:
        return {"actor_adam": self.actor_optimizer.adam, "critic_adam": self.critic_optimizer.adam}

    def replay_buffer(self) -> CropReplay:
        c = self.config
        sampling = Sampling(c.batch_size, c.learning_starts, c.updates_per_env_step, c.gamma, c.sample_with_replacement)
        return CropReplay(
            self.observation_space, self.action_space, capacity=c.replay_size, n_envs=c.n_envs, sampling=sampling
        )


AGENT = SACCrops

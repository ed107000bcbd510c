"""PPO: proximal policy optimisation with a clipped objective (Schulman et al. 2017, arXiv 1707.06347)."""

from collections.abc import Mapping
from typing import Any

import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from llmrl.agents.capturable import Capturable
from llmrl.agents.configs import PPOConfig as Config
from llmrl.agents.nets import Optimizer, flatten, initialised_by, is_frames, tensors, vector_size
from llmrl.agents.nets_gaussian import CategoricalPolicy, GaussianPolicy, TanhMLP
from llmrl.checks import ConfigError
from llmrl.contracts.replay import Batch
from llmrl.explore.unchanged import Unchanged
from llmrl.replay.rollout import Rollout


class PPO(Capturable):
    """A policy pi(a | s) and a value V(s), which share no layer. Gaussian actions are clipped when executed."""

    actions = "both"
    config: Config
    action_space: spaces.Discrete | spaces.Box
    clips_actions = True

    def __init__(self, config: Config, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        if is_frames(self.observation_space):
            raise ConfigError(f"PPO has no convolutions, this task observes {self.observation_space}: use agent=dqn")
        if self.env_steps < config.n_steps * config.n_envs:
            raise ConfigError(
                f"agent.n_steps={config.n_steps} in {config.n_envs} environments: a budget of {self.env_steps:,} "
                "env_steps ends before the first update; lower agent.n_steps, or raise the budget"
            )
        obs_size = vector_size(self.observation_space)
        self.policy: CategoricalPolicy | GaussianPolicy
        with initialised_by(self.gen):
            if isinstance(self.action_space, spaces.Discrete):
                self.policy = CategoricalPolicy(obs_size, self.action_space, config.hidden).to(self.device)
            else:
                self.policy = GaussianPolicy(obs_size, self.action_space, config.hidden).to(self.device)
            self.value = TanhMLP((obs_size, *config.hidden, 1), gain=1.0).to(self.device)
        both = nn.ModuleList([self.policy, self.value])
        self.optimizer = Optimizer(both, config.learning_rate, config.max_grad_norm, eps=config.adam_epsilon)

    def act(self, obs: Any, *, explore: bool, gen: Generator) -> NDArray:
        """a ~ pi(. | s) to explore, which may lie outside the action's box, else the most likely one."""
        with torch.inference_mode():
            x = flatten(tensors(obs, self.device))
            action = self.policy.sample(x, gen) if explore else self.policy.mode(x)
        return action.cpu().numpy().reshape(-1, *(self.action_space.shape or ()))

    def values(self, obs: Any) -> Tensor:
        """V(s): (batch, *obs) -> (batch,)"""
        return self.value(flatten(obs)).squeeze(1)

    def log_probs(self, obs: Any, action: Tensor) -> Tensor:
        """log pi(a | s): (batch, *obs), (batch, *action) -> (batch,)"""
        return self.policy.log_prob(flatten(obs), action)[0]

    def learn(self, batch: Batch, noise: Any, *, due: bool) -> Mapping[str, Tensor]:
        c = self.config
        log_prob, entropy = self.policy.log_prob(flatten(batch.obs), batch.action)
        advantage, old_log_prob, value_target = batch.advantage, batch.log_prob, batch.value_target
        assert advantage is not None and old_log_prob is not None and value_target is not None  # a rollout's batch
        if len(advantage) > 1:  # a rollout's last minibatch may hold a single step
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)

        # maximise min(rho A, clip(rho, 1 - eps, 1 + eps) A),  rho = pi(a | s) / pi_old(a | s)
        log_rho = log_prob - old_log_prob
        rho = log_rho.exp()
        clipped = rho.clamp(1 - c.clip_range, 1 + c.clip_range)
        policy_loss = -torch.minimum(rho * advantage, clipped * advantage).mean()
        # minimise (V(s) - R)^2, and maximise the entropy
        value_loss = F.mse_loss(self.values(batch.obs), value_target)
        self.optimizer.step(policy_loss + c.vf_coef * value_loss - c.ent_coef * entropy)

        metrics = {"policy_loss": policy_loss, "value_loss": value_loss, "entropy": entropy}
        with torch.no_grad():
            # KL(pi_old, pi) = E[rho - 1 - log rho], an estimate that is never negative
            metrics["approx_kl"] = (rho - 1 - log_rho).mean()
            metrics["clip_fraction"] = ((rho - 1).abs() > c.clip_range).float().mean()
        return {name: value.detach() for name, value in metrics.items()}

    def replay_buffer(self) -> Rollout:
        c = self.config
        return Rollout(
            self.observation_space,
            self.action_space,
            n_steps=c.n_steps,
            n_envs=c.n_envs,
            batch_size=c.batch_size,
            n_epochs=c.n_epochs,
            gamma=c.gamma,
            gae_lambda=c.gae_lambda,
        )

    def explorer(self) -> Unchanged:
        return Unchanged()

    def state_dict(self) -> dict:
        return {
            "policy": self.policy.state_dict(),
            "value": self.value.state_dict(),
            "adam": self.optimizer.adam.state_dict(),
            "gen": self.gen.get_state(),
            "updates": self.updates,
        }

    def load_state_dict(self, state: dict) -> None:
        self.policy.load_state_dict(state["policy"])
        self.value.load_state_dict(state["value"])
        self.optimizer.adam.load_state_dict(state["adam"])
        self.gen.set_state(state["gen"])
        self.updates = state["updates"]


AGENT = PPO

"""TD3 and SAC from TorchRL's own parts, for peers.py: its collector, replay buffer, losses and target updater.

TorchRL is a library of parts and has no ready-made loop as stable-baselines3 has: this is the one of its examples, with
the hyper-parameters that all peers get. It collects BATCH env_steps, then makes as many updates. The environment
has no transforms but the one to float32, and nothing is logged; neither torch.compile nor CUDA graphs are used.
"""

import itertools
from collections.abc import Callable

import torch
from tensordict.nn import NormalParamExtractor, TensorDictModule, TensorDictSequential
from torch import nn
from torch.optim import Adam
from torchrl.collectors import Collector
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
from torchrl.envs import DoubleToFloat, GymEnv, TransformedEnv
from torchrl.modules import (
    MLP,
    AdditiveGaussianModule,
    ProbabilisticActor,
    TanhModule,
    TanhNormal,
    ValueOperator,
)
from torchrl.objectives import SACLoss, SoftUpdate, TD3Loss

BATCH = 20  # env_steps that are collected at a time; divides the lengths of all segments
POLICY_DELAY = 2


def loop(
    algorithm: str, env_id: str, *, learning_rate: float, batch_size: int, replay_size: int, learning_starts: int
) -> Callable[[int], None]:
    """Trains for so many env_steps, with one update each."""
    torch.manual_seed(0)
    env = TransformedEnv(GymEnv(env_id), DoubleToFloat())
    spec = env.action_spec_unbatched
    obs_size, action_size = env.observation_spec["observation"].shape[-1], spec.shape[-1]
    hidden = {"num_cells": [256, 256], "activation_class": nn.ReLU}
    critic = ValueOperator(MLP(obs_size + action_size, 1, **hidden), in_keys=["action", "observation"])
    if algorithm == "td3":
        net = TensorDictModule(MLP(obs_size, action_size, **hidden), in_keys=["observation"], out_keys=["param"])
        actor = TensorDictSequential(net, TanhModule(in_keys=["param"], out_keys=["action"], spec=spec))
        behaviour = TensorDictSequential(actor, AdditiveGaussianModule(spec, sigma_init=1, sigma_end=1, std=0.1))
        loss = TD3Loss(actor, critic, action_spec=spec, loss_function="l2", policy_noise=0.2, noise_clip=0.5)
    else:
        body = nn.Sequential(MLP(obs_size, 2 * action_size, **hidden), NormalParamExtractor())
        net = TensorDictModule(body, in_keys=["observation"], out_keys=["loc", "scale"])
        bounds = {"low": spec.space.low, "high": spec.space.high}
        behaviour = actor = ProbabilisticActor(
            net, in_keys=["loc", "scale"], spec=spec, distribution_class=TanhNormal, distribution_kwargs=bounds
        )
        loss = SACLoss(actor, critic, action_spec=spec, loss_function="l2")
    loss.make_value_estimator(gamma=0.99)
    targets = SoftUpdate(loss, tau=0.005)

    def adam(params) -> Adam:
        return Adam(params.flatten_keys().values(), lr=learning_rate)

    critic_adam, actor_adam = adam(loss.qvalue_network_params), adam(loss.actor_network_params)
    alpha_adam = Adam([loss.log_alpha], lr=learning_rate) if algorithm == "sac" else None
    replay = TensorDictReplayBuffer(storage=LazyTensorStorage(replay_size), batch_size=batch_size)
    collector = Collector(
        env, behaviour, frames_per_batch=BATCH, total_frames=-1, init_random_frames=learning_starts, trust_policy=True
    )
    collected, updates = iter(collector), itertools.count(1)

    def step(optimizer: Adam, value: torch.Tensor) -> None:
        optimizer.zero_grad()
        value.backward()
        optimizer.step()

    def update_td3() -> None:
        batch = replay.sample()
        step(critic_adam, loss.value_loss(batch)[0])
        if next(updates) % POLICY_DELAY == 0:
            step(actor_adam, loss.actor_loss(batch)[0])
            targets.step()

    def update_sac() -> None:
        values = loss(replay.sample())
        for optimizer in (actor_adam, critic_adam, alpha_adam):
            optimizer.zero_grad()
        (values["loss_actor"] + values["loss_qvalue"] + values["loss_alpha"]).backward()
        for optimizer in (actor_adam, critic_adam, alpha_adam):
            optimizer.step()
        targets.step()

    update = update_td3 if algorithm == "td3" else update_sac
    done = 0

    def train(env_steps: int) -> None:
        nonlocal done
        for _ in range(env_steps // BATCH):
            replay.extend(next(collected).reshape(-1))
            done += BATCH
            for _ in range(BATCH if done > learning_starts else 0):
                update()

    return train

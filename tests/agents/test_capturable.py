"""Without a GPU: would an update be capturable as a CUDA graph? Its agent lives on the device `meta`, where reading a
value back is an error, and every operation is looked at: one on the host would be missing in the graph."""

import sys
import traceback
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces
from offline_training import SMALL, some_transitions
from offline_training import agent_of as offline_agent
from plain_crops import RESIDUAL, crop_batch, crop_space
from small_agents import FRAMES, box, config, make, random_batch, vectors
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from llmrl.agents.perceptrons import Perceptrons

ARMS, TORQUES, OBS = spaces.Discrete(3), box([-1, -2], [1, 3]), vectors(5)
ACTING = {
    "td3": ("td3", OBS, TORQUES, {}),
    "ddpg": ("ddpg", OBS, TORQUES, {}),
    "sac": ("sac", OBS, TORQUES, {}),
    "sac on crops": ("sac_crops", crop_space(), box([-1] * 3, [1] * 3), {}),
    "sac on objects": ("sac_objects", crop_space(), RESIDUAL, {}),
    "sac on objects, no goal": ("sac_objects", crop_space(goal=False), RESIDUAL, {}),
    "ppo": ("ppo", OBS, TORQUES, {}),
    "ppo, discrete": ("ppo", OBS, ARMS, {}),
    "dqn": ("dqn", OBS, ARMS, {}),
    "dqn, frames": ("dqn", FRAMES, ARMS, {}),
    "dqn, all": ("dqn", FRAMES, ARMS, {"double": True, "dueling": True, "noisy": True}),
    "rnd_dqn": ("rnd_dqn", FRAMES, ARMS, {}),
    "rainbow": ("rainbow", FRAMES, ARMS, {}),
    "curl": ("curl", FRAMES, ARMS, {}),
}
SMALLER = {"hidden": (8,), "hidden_after_convolutions": (8,), "policy_delay": 2, "target_update_every": 2}
SMALLER |= {"rnd_target_hidden": (4,), "rnd_predictor_hidden": (4,)}
SMALLER |= {"contrastive_hidden": 6, "contrastive_size": 4}


@pytest.fixture(autouse=True)
def fused_on_meta(monkeypatch):
    """torch's Adam is as on a GPU."""
    monkeypatch.setattr(sys.modules[torch.optim.Adam.__module__], "_device_dtype_check_for_fused", lambda *_: None)


class OnTheHost(TorchDispatchMode):
    """Collects the operations that touch a tensor which is not on the device."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.operations = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        self.operations += 1
        leaves = tree_leaves((args, kwargs, out))
        if any(isinstance(x, torch.Tensor) and x.device.type != "meta" for x in leaves):
            where = [frame for frame in traceback.extract_stack() if "/llmrl/" in frame.filename][-1]
            self.found.add(f"{function} in {Path(where.filename).name}:{where.lineno} {where.line}")
        return out


def on_meta(tree):
    return tree_map_only(torch.Tensor, lambda x: x.to("meta"), tree)


def agent_and_batch(case, device):
    if case in SMALL:
        agent = offline_agent(case, device=device)
        return agent, offline_agent(case).source(some_transitions()).draw(np.random.default_rng(0))
    name, space, actions, options = ACTING[case]
    known = config(name).__dict__
    changes = {key: value for key, value in SMALLER.items() if key in known} | options
    if name == "curl":
        del changes["hidden"]
    agent = make(name, space, actions, env_steps=10_000, device=device, **changes)
    make_batch = crop_batch if name in ("sac_crops", "sac_objects") else random_batch
    batch = make_batch(space, actions, 6, 0)
    if name in ("rainbow", "curl"):
        batch = batch._replace(weight=torch.ones(6), discount=torch.full((6,), 0.9))
    if name == "ppo":
        batch = batch._replace(log_prob=torch.zeros(6), advantage=torch.randn(6), value_target=torch.zeros(6))
    return agent, batch


@pytest.mark.parametrize("case", [*ACTING, *SMALL])
def test_an_update_works_on_the_device_alone(case):
    agent, batch = agent_and_batch(case, "meta")
    batch = on_meta(batch)
    for _ in range(4):
        agent.update(batch)  # whatever is made once
    for due in {agent.due() for agent.updates in (5, 6)}:
        noise = agent.on_device(agent.noise(6))
        with OnTheHost() as seen:
            agent.learn(batch, noise, due=due)
        assert seen.found == set() and seen.operations > 5


def test_what_is_not_capturable_is_found():
    agent, batch = agent_and_batch("td3", "meta")
    batch = on_meta(batch)
    agent.update(batch)
    with OnTheHost() as seen:
        agent.update(batch)  # draws its noise on the host
    assert any("randn" in one for one in seen.found)
    with pytest.raises(Exception, match="meta"), torch.no_grad():
        float(batch.reward.sum())


@pytest.mark.parametrize("case", ["td3", "ddpg", "sac", "dqn"])
def test_networks_computed_at_once_as_on_a_gpu_are_those_computed_one_after_the_other(case):
    (one, batch), (other, _) = agent_and_batch(case, "cpu"), agent_and_batch(case, "cpu")
    for part in vars(other).values():
        if isinstance(part, Perceptrons):
            part.batched = True
    for _ in range(6):
        mine, its = one.update(batch), other.update(batch)
        torch.testing.assert_close(mine, its, rtol=1e-5, atol=1e-6)
    for part, same in zip(vars(one).values(), vars(other).values()):
        if isinstance(part, Perceptrons):
            torch.testing.assert_close(part.weights, same.weights, rtol=1e-5, atol=1e-6)

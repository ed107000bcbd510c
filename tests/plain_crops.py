"""Observations of crops, made up; and ExploRLLM's encoder written down plainly for stable-baselines3."""

import numpy as np
import torch
from gymnasium import spaces
from small_agents import box, random_batch, some_actions, some_obs
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from llmrl.contracts.replay import Step

RESIDUAL = box([0] * 7 + [-1] * 2, [1] * 9)  # pick or place, six scores, residual


def crop_space(goal=True, objects=6, size=28):
    parts = {
        "position": spaces.Box(-1, 2, (objects, 2), np.float32),
        "rgb": spaces.Box(0, 255, (objects, size, size, 3), np.uint8),
        "height": spaces.Box(-10, 10, (objects, size, size), np.float16),
        "in_hand": box([0], [1]),
        "goal": box([0, 0], [2, 2]),
    }
    return spaces.Dict({key: part for key, part in parts.items() if goal or key != "goal"})


def image_space(size=112):
    crops = crop_space()
    rgb, height = spaces.Box(0, 255, (size, size, 3), np.uint8), spaces.Box(-10, 10, (size, size), np.float16)
    return spaces.Dict({"rgb": rgb, "height": height, "in_hand": crops["in_hand"], "goal": crops["goal"]})


def crop_batch(space, actions, n, seed):
    """A batch as the crop replay buffer makes it."""
    batch = random_batch(space, actions, n, seed)
    for obs in (batch.obs, batch.next_obs):
        obs["height"] = obs["height"].half()
        if "goal" in obs:
            obs["goal"] = obs["goal"].abs().round().clamp(max=2)
    return batch


class PlainAttention(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.query = nn.Linear(size, size, bias=False)
        self.key = nn.Linear(size, size, bias=False)
        self.value = nn.Linear(size, size, bias=False)
        self.out = nn.Linear(size, size)

    def forward(self, tokens):
        scene = []
        for token in tokens.unbind(1):
            score = torch.stack([(self.query(token) * self.key(other)).sum(1) for other in tokens.unbind(1)])
            weight = torch.softmax(score / np.sqrt(tokens.shape[2]), 0)
            seen = sum(w[:, None] * self.value(other) for w, other in zip(weight, tokens.unbind(1)))
            scene.append(self.out(seen))
        return torch.stack(scene, 1)


class PlainEncoder(BaseFeaturesExtractor):
    """The authors' encoder, layer by layer."""

    def __init__(self, observation_space, attention=True):
        super().__init__(observation_space, 32)
        size = 12 + 2 + 1 + (2 if "goal" in observation_space.spaces else 0) + 1
        self.cnn = nn.Sequential(
            nn.Conv2d(4, 6, 5, stride=2),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 12, 4, stride=2),
            nn.BatchNorm2d(12),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(12, 12),
            nn.ReLU(),
        )
        self.attention = PlainAttention(size) if attention else nn.Identity()
        self.mlp = nn.Sequential(
            nn.Flatten(), nn.Linear(6 * size, 6 * size), nn.ReLU(), nn.Linear(6 * size, 32), nn.ReLU()
        )

    def forward(self, obs):
        pixels = torch.cat([obs["rgb"].float() / 255, obs["height"].float().unsqueeze(4)], 4)
        crops = self.cnn(pixels.permute(0, 1, 4, 2, 3).flatten(0, 1)).unflatten(0, (-1, 6))
        index = torch.arange(6.0).expand(len(crops), 6).unsqueeze(2)
        shared = [obs[key].unsqueeze(1).expand(-1, 6, -1) for key in ("in_hand", "goal") if key in obs]
        return self.mlp(self.attention(torch.cat([crops, obs["position"], *shared, index], 2)))


def crop_steps(space, actions, n, rng, n_envs=1, changes=0.5, length=6):
    """Steps whose crops change as in the simulator: all at a reset, in `changes` of the steps one; each is unlike any
    other. Episodes end after `length` steps on average."""

    def fresh():
        return [new_obs() for _ in range(n_envs)]

    def new_obs():
        obs = some_obs(space, 1, rng)
        return {key: part[0].astype(space[key].dtype) for key, part in obs.items()}

    scenes = fresh()
    for _ in range(n):
        after = []
        for scene in scenes:
            new, moved = new_obs(), rng.random() < changes
            picture = {key: scene[key].copy() for key in ("rgb", "height")}
            if moved:
                which = rng.integers(6) if scene["height"].ndim == 3 else ...
                for key, part in picture.items():
                    part[which] = new[key][which]
            after.append(new | picture | {"goal": scene["goal"]} if "goal" in scene else new | picture)
        last = rng.random(n_envs) < 1 / length
        terminated = last & (rng.random(n_envs) < 0.5)
        yield Step(
            stacked(scenes),
            some_actions(actions, n_envs, rng),
            rng.standard_normal(n_envs).astype(np.float32),
            stacked(after),
            terminated,
            last,
        )
        scenes = [new_obs() if over else scene for over, scene in zip(last, after)]


def stacked(observations):
    return {key: np.stack([obs[key] for obs in observations]) for key in observations[0]}


def check_restored(agent, other, nets, file):
    """`other` goes on from the state of `agent` as it does, also where one of them acts in between."""
    space, actions, torch_state = agent.observation_space, agent.action_space, torch.get_rng_state()
    batches = [crop_batch(space, actions, 8, seed=i) for i in range(4)]
    for batch in batches[:2]:
        agent.update(batch)
    torch.save(agent.state_dict(), file)
    other.load_state_dict(torch.load(file, weights_only=True))
    obs = {key: part.numpy() for key, part in batches[0].obs.items()}
    for explore in (False, True):
        action = agent.act(obs, explore=explore, gen=torch.Generator().manual_seed(0))
        assert action.shape == (8, *actions.shape) and all(actions.contains(a) for a in action)
    for batch in batches[2:]:
        mine, its = agent.update(batch), other.update(batch)
        assert all(torch.equal(mine[name], its[name]) for name in mine)
    mine, its = agent.state_dict(), other.state_dict()
    assert all(torch.equal(mine[net][name], its[net][name]) for net in nets for name in mine[net])
    assert torch.equal(torch.get_rng_state(), torch_state)


def check_alone_and_among_others(agent, atol):
    """An observation gets the same action whichever others are in the batch."""
    space = agent.observation_space
    agent.update(crop_batch(space, agent.action_space, 16, seed=0))
    obs = {key: part.numpy() for key, part in crop_batch(space, agent.action_space, 16, seed=1).obs.items()}
    together = agent.act(obs, explore=False, gen=torch.Generator())
    alone = agent.act({key: part[3:4] for key, part in obs.items()}, explore=False, gen=torch.Generator())
    np.testing.assert_allclose(alone[0], together[3], atol=atol)

"""Can ExploRLLM's critics learn where a letter holds? Each design, supervised, without SAC around it.

named, means: the critics of agent=sac_objects, which see the object that the action names, with either encoder; true,
none, authors: those of agent=sac_crops, by their attention.

A pick of the goal's letter with a random residual is labelled with whether suction held. A critic of the agent's sizes
is fitted to the labels by least squares. Printed: its error on other scenes beside the labels' variance there, which
who knows nothing has, and how often the pick holds that it thinks best of a grid of 81.

Usage: python scripts/probe_attention.py [--designs named means true none authors] [--batch 64] [--updates 2000]
                                         [--picks 8000] [--learning-rate 1e-3]
"""

import argparse
import os
import sys
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from small_agents import make  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from llmrl.agents.nets import Critics, tensors  # noqa: E402
from llmrl.agents.nets_crops import ATTENTION, FEATURES, Encoded, encoder, see  # noqa: E402
from llmrl.agents.nets_objects import scenes  # noqa: E402
from llmrl.gymnasium_ids import pick_place  # noqa: E402

GRID = np.stack(np.meshgrid(np.linspace(-1, 1, 9), np.linspace(-1, 1, 9)), axis=-1).reshape(-1, 2)
SCENES = 100  # of the test; what training sees has other seeds
CPU = torch.device("cpu")
NAMED = {"named": "cnn", "means": "means"}  # design: encoder


class Named(nn.Module):
    """The critics of agent=sac_objects with their encoder."""

    def __init__(self, env, encoder: str) -> None:
        super().__init__()
        self.agent = make("sac_objects", env.observation_space, env.action_space, encoder=encoder)
        self.encoder, self.critic = self.agent.encoder, self.agent.critic

    def forward(self, obs: dict[str, Tensor], action: Tensor) -> Tensor:
        seen, named = scenes(obs), self.agent.named(action)
        features = self.agent.encoded(seen, torch.cat([named, seen.goal], dim=1))
        return self.critic(self.agent.for_critic(seen, named, features), self.agent.behind(action))


class All(nn.Module):
    """The critics of agent=sac_crops."""

    def __init__(self, env, attention: str) -> None:
        super().__init__()
        self.net = Encoded(encoder(env.observation_space, attention), Critics(2, FEATURES, 9, (256, 256)))

    def forward(self, obs: dict[str, Tensor], action: Tensor) -> Tensor:
        return self.net(see(obs), action)


def picked(env, seed: int, residual: np.ndarray) -> tuple[dict, np.ndarray, bool]:
    """(observation, action, whether it held) of a pick of the goal's letter in the scene of `seed`."""
    obs, info = env.reset(seed=seed)
    action = np.zeros(9, np.float32)
    action[1 + info["truth"]["goal"][0]], action[7:] = 1, residual
    return obs, action, env.step(action)[4]["picked"]


def stacked(picks: list[tuple]) -> tuple[dict, torch.Tensor, torch.Tensor]:
    obs, action, held = zip(*picks)
    units = (np.stack(action) - ([0.5] * 7 + [0] * 2)) * ([2] * 7 + [1] * 2)  # -1 … 1, as SAC's networks know them
    return (
        {key: np.stack([o[key] for o in obs]) for key in obs[0]},
        torch.tensor(units, dtype=torch.float32),
        torch.tensor(held, dtype=torch.float32),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    designs = [*NAMED, *ATTENTION]
    parser.add_argument("--designs", nargs="*", choices=designs, default=designs)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--updates", type=int, default=2000)
    parser.add_argument("--picks", type=int, default=8000)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    env, rng = pick_place(), np.random.default_rng(0)
    seeds = range(10**6, 10**6 + args.picks)
    obs, action, held = stacked([picked(env, seed, rng.normal(0, 0.5, 2).clip(-1, 1)) for seed in seeds])
    scenes = [[picked(env, seed, residual) for residual in GRID] for seed in range(SCENES)]
    test_obs, test_action, test_held = stacked([pick for scene in scenes for pick in scene])
    print(f"held: {test_held.mean():.2f} of a grid, {test_held.view(SCENES, 81)[:, 40].mean():.2f} of the centres")
    print(f"variance of the labels: {test_held.var():.3f}")
    for design in args.designs:
        torch.manual_seed(0)
        rng = np.random.default_rng(1)
        net = Named(env, NAMED[design]) if design in NAMED else All(env, design)
        adam = torch.optim.Adam(net.parameters(), args.learning_rate)
        for update in range(1, args.updates + 1):
            some = rng.integers(len(held), size=args.batch)
            values = net.train()(tensors({k: v[some] for k, v in obs.items()}, CPU), action[some])
            adam.zero_grad()
            F.mse_loss(values, held[some].expand_as(values)).backward()
            adam.step()
            if update % max(1, args.updates // 5) == 0:
                with torch.no_grad():
                    parts = [slice(i, i + 810) for i in range(0, len(test_held), 810)]
                    liked = [net.eval()(tensors({k: v[p] for k, v in test_obs.items()}, CPU), test_action[p])
                             for p in parts]  # fmt: skip
                value = torch.cat(liked, dim=1).mean(0)
                best = value.view(SCENES, 81).argmax(1, keepdim=True)
                share = test_held.view(SCENES, 81).gather(1, best).mean()
                error = F.mse_loss(value, test_held)
                print(
                    f"{design:8} {update:6,} updates: error {error:.3f}, best picks {share:.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()

"""The peers of bench_training.py: other libraries' training loops, each in a process of its own.

A process of its own, because how denormals are treated, random states and pools of threads belong to a process: what
one library sets would count for the others as well.

Usage, though bench_training.py is what asks: python scripts/peers.py stable-baselines3|sbx|torchrl|cleanrl <case>
                                              [--cleanrl DIR]
It prints "ready", reads a number of env_steps, trains for as many, and prints "ready" again.
"""

import argparse
import os
import runpy
import subprocess
import sys
import tempfile
import types
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import gymnasium as gym  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

WARM_UP = 300  # env_steps before the first update
REPLAY = 10_000  # transitions; Atari's frames, which stable-baselines3 stores eight times, have to fit
Train = Callable[[int], Any]  # goes on for so many env_steps


def half_cheetah() -> gym.Env:
    return gym.make("HalfCheetah-v5")


def cart_pole() -> gym.Env:
    return gym.make("CartPole-v1")


def atari() -> gym.Env:
    import yaml
    from pydantic import TypeAdapter

    from llmrl.conf_files import conf_root
    from llmrl.envs.atari import AtariEnv, Preprocess

    options = yaml.safe_load((conf_root() / "env/atari/preprocess/standard.yaml").read_text())
    return AtariEnv("pong", TypeAdapter(Preprocess).validate_python(options), learning=True, render=False)


@dataclass(frozen=True)
class Case:
    """What stable-baselines3 and sbx are given."""

    algorithm: str
    make_env: Callable[[], gym.Env]
    settings: dict[str, Any]
    policy: str = "MlpPolicy"


DQN = {"learning_rate": 1e-4, "batch_size": 32, "train_freq": 4, "target_update_interval": 10_000}
DQN |= {"exploration_initial_eps": 0.05, "exploration_final_eps": 0.05}
DQN |= {"buffer_size": REPLAY, "learning_starts": WARM_UP}
OFF_POLICY = {"learning_rate": 3e-4, "batch_size": 256, "train_freq": 1, "buffer_size": REPLAY}
OFF_POLICY |= {"learning_starts": WARM_UP, "policy_kwargs": {"net_arch": [256, 256]}}
PPO = {"n_steps": 512}  # segments are whole rollouts; all else is stable-baselines3's default in both
CASES = {
    "td3": Case("TD3", half_cheetah, OFF_POLICY),
    "sac": Case("SAC", half_cheetah, OFF_POLICY),
    "ppo": Case("PPO", half_cheetah, PPO),
    "dqn_cartpole": Case("DQN", cart_pole, DQN | {"policy_kwargs": {"net_arch": [64, 64]}}),
    "dqn_atari": Case("DQN", atari, DQN, "CnnPolicy"),
    "dqn_atari_256": Case("DQN", atari, DQN | {"batch_size": 256, "train_freq": 1}, "CnnPolicy"),
    "rainbow_atari": Case("DQN", atari, DQN, "CnnPolicy"),  # stable-baselines3 has no Rainbow
}


# --- the peers ------------------------------------------------------------------------------------------------------


def stable_baselines3(name: str, library: str = "stable_baselines3") -> Train:
    """stable-baselines3's loop, or sbx's, which is its twin on JAX."""
    module, case = __import__(library), CASES[name]
    settings = dict(case.settings)
    if case.algorithm == "TD3":
        from stable_baselines3.common.noise import NormalActionNoise

        n = case.make_env().action_space.shape[0]
        settings["action_noise"] = NormalActionNoise(np.zeros(n), np.full(n, 0.1))
    if library == "stable_baselines3":
        settings["device"] = "cpu"
    model = getattr(module, case.algorithm)(case.policy, case.make_env(), seed=0, **settings)
    return lambda env_steps: model.learn(env_steps, reset_num_timesteps=False)


def sbx(name: str) -> Train:
    return stable_baselines3(name, "sbx")


def torchrl(name: str) -> Train:
    os.environ["RL_LOGGING_LEVEL"] = "WARNING"
    import peer_torchrl

    return peer_torchrl.loop(
        name,
        "HalfCheetah-v5",
        learning_rate=OFF_POLICY["learning_rate"],
        batch_size=OFF_POLICY["batch_size"],
        replay_size=REPLAY,
        learning_starts=WARM_UP,
    )


def cleanrl(name: str, directory: Path) -> None:
    """CleanRL's script as it is, from beginning to end; each segment ends within a step of its environment.

    The script is of 2023 and asks for gym 0.23, which no longer works. It gets Gymnasium's environment behind
    stable-baselines3's DummyVecEnv, whose interface is the one that gym had.
    """
    from stable_baselines3.common.vec_env import DummyVecEnv

    class Segments(gym.Wrapper):
        left = 0

        def step(self, action):
            while self.left == 0:
                self.left = next_segment()
            self.left -= 1
            return self.env.step(action)

    class RecordEpisodeStatistics(gym.wrappers.RecordEpisodeStatistics):
        def seed(self, seed):
            self.reset(seed=seed)

    class SyncVectorEnv(DummyVecEnv):
        single_observation_space = property(lambda self: self.observation_space)
        single_action_space = property(lambda self: self.action_space)

    old = types.ModuleType("gym")
    old.spaces, old.make = gym.spaces, lambda env_id: Segments(gym.make(env_id))
    old.wrappers = types.SimpleNamespace(RecordEpisodeStatistics=RecordEpisodeStatistics)
    old.vector = types.SimpleNamespace(SyncVectorEnv=SyncVectorEnv)
    sys.modules["gym"] = old
    script = directory / "cleanrl" / f"{name}_continuous_action.py"
    settings = {"env-id": "HalfCheetah-v5", "buffer-size": REPLAY, "learning-starts": WARM_UP, "cuda": False}
    settings |= {"policy-frequency": 1, "q-lr": 3e-4} if name == "sac" else {}
    sys.argv = [str(script), "--total-timesteps", str(10**9), *(f"--{key}={value}" for key, value in settings.items())]
    runpy.run_path(str(script), run_name="__main__")


@dataclass(frozen=True)
class Peer:
    package: str  # of the registry
    module: str
    cases: tuple[str, ...]
    quick: bool  # also measured with --quick

    def version(self, directory: Path | None = None) -> str:
        """Of what is installed, or lies unpacked in the directory."""
        places = [str(directory), *sys.path] if directory else sys.path
        return next((found.version for found in distributions(name=self.package, path=places)), "(absent)")


PEERS = {
    "stable-baselines3": Peer("stable-baselines3", "stable_baselines3", tuple(CASES), True),
    "sbx": Peer("sbx-rl", "sbx", ("td3", "sac", "ppo", "dqn_cartpole", "dqn_atari"), True),
    "torchrl": Peer("torchrl", "torchrl", ("td3", "sac"), False),
    "cleanrl": Peer("cleanrl", "stable_baselines3", ("td3", "sac"), False),
}


# --- processes ------------------------------------------------------------------------------------------------------


class Process:
    """A peer's training of a case, as bench_training.py sees it; its processor time is that of a child."""

    def __init__(self, peer: str, case: str, *options: str) -> None:
        self.directory = tempfile.TemporaryDirectory()  # CleanRL's logs are written where it runs
        self.child = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(Path(__file__).resolve()), peer, case, *options],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=self.directory.name,
        )  # fmt: skip
        self.await_ready()

    def __call__(self, env_steps: int) -> None:
        print(env_steps, file=self.child.stdin, flush=True)
        self.await_ready()

    def await_ready(self) -> None:
        if self.child.stdout.readline() != "ready\n":
            raise RuntimeError(f"{' '.join(self.child.args)} ended early; its messages are above")

    def close(self) -> None:
        self.child.stdin.close()
        self.child.wait()
        self.directory.cleanup()


def next_segment() -> int:
    """Tells the parent that this process waits, and how many env_steps it then asks for; the end if for none."""
    os.write(REPLIES, b"ready\n")
    line = sys.stdin.readline()
    if not line:
        os._exit(0)
    return int(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--cleanrl", type=Path, metavar="DIR", help="where CleanRL's release is unpacked")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.peer == "cleanrl":
        cleanrl(args.case, args.cleanrl.resolve())
    train = {"stable-baselines3": stable_baselines3, "sbx": sbx, "torchrl": torchrl}[args.peer](args.case)
    while True:
        train(next_segment())


if __name__ == "__main__":
    REPLIES = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # a library's prints are no replies
    main()

"""How many env_steps a second our training does, beside stable-baselines3 and sbx (extra `bench`).

One core, one thread, the same environment and hyper-parameters for all; segments of training take turns, and the median
of five counts. Seconds are those that this process had the core, so that what else runs on it does not count.

Rainbow stands beside stable-baselines3's DQN, since it has no Rainbow. `dqn_atari_256` is LLM-Explorer's setting:
batches of 256, an update every step. `td3_wrapper` is ours beside ours: TD3 with five of LESR's features, its reward
and its records, as a candidate trains, beside TD3 without; the sandbox's processor time counts.

Usage: python scripts/bench_training.py [--only td3|td3_wrapper|sac|ppo|dqn_cartpole|dqn_atari|dqn_atari_256|
                                         rainbow_atari] [--quick]
"""

import argparse
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

CORE = max(os.sched_getaffinity(0))
os.sched_setaffinity(0, {CORE})  # before numerical libraries count the cores
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"
os.environ["JAX_PLATFORMS"] = "cpu"
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import gymnasium as gym  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
import yaml  # noqa: E402
from pydantic import TypeAdapter  # noqa: E402

from llmrl.agents import dqn, ppo, rainbow, sac, td3  # noqa: E402
from llmrl.conf_files import conf_root  # noqa: E402
from llmrl.loops.online import OnlineTraining  # noqa: E402
from llmrl.loops.training import Schedule  # noqa: E402
from llmrl.methods.lesr import scripted as scripted_lesr  # noqa: E402
from llmrl.methods.lesr import wrapper as lesr_wrapper  # noqa: E402
from llmrl.runs.checkpoint import Checkpoints  # noqa: E402
from llmrl.runs.log import RunLog  # noqa: E402
from llmrl.runs.stop import Stop  # noqa: E402

SEGMENTS = 5
WARM_UP = 300  # env_steps before the first update, and again before the first segment
REPLAY = 10_000  # transitions; Atari's frames, which stable-baselines3 stores eight times, have to fit
FEATURES = 5  # of the wrapper; as many as the authors' published program for HalfCheetah adds
NEVER = 10**9
Train = Callable[[int], Any]  # goes on for so many env_steps


def half_cheetah() -> gym.Env:
    return gym.make("HalfCheetah-v5")


def cart_pole() -> gym.Env:
    return gym.make("CartPole-v1")


def atari() -> gym.Env:
    from llmrl.envs.atari import AtariEnv, Preprocess

    options = yaml.safe_load((conf_root() / "env/atari/preprocess/standard.yaml").read_text())
    return AtariEnv("pong", TypeAdapter(Preprocess).validate_python(options), learning=True, render=False)


@dataclass(frozen=True)
class Case:
    """One comparison. `changes` are to our yaml, `theirs` says the same to stable-baselines3 and sbx."""

    agent: str
    make_env: Callable[[], gym.Env]
    changes: dict[str, Any]
    theirs: dict[str, Any]
    policy: str
    env_steps: int  # of a segment
    quick: int | None  # of a segment with --quick; None: left out there
    warm_up: int = WARM_UP  # env_steps after which the replay buffer can give batches


COMMON = {"replay_size": REPLAY, "learning_starts": WARM_UP, "random_steps": WARM_UP}
EPSILON = {"epsilon_start": 0.05, "epsilon_end": 0.05}
DQN = {"learning_rate": 1e-4, "batch_size": 32, "train_freq": 4, "target_update_interval": 10_000}
DQN |= {"exploration_initial_eps": 0.05, "exploration_final_eps": 0.05}
DQN |= {"buffer_size": REPLAY, "learning_starts": WARM_UP}
EVERY_STEP, THEIR_EVERY_STEP = {"batch_size": 256, "updates_per_env_step": 1}, {"batch_size": 256, "train_freq": 1}
RAINBOW = {"replay_size": REPLAY, "learning_starts": WARM_UP}
OFF_POLICY = {"learning_rate": 3e-4, "batch_size": 256, "train_freq": 1, "buffer_size": REPLAY}
OFF_POLICY |= {"learning_starts": WARM_UP, "policy_kwargs": {"net_arch": [256, 256]}}
PPO = {"n_steps": 512}  # segments are whole rollouts; all else is stable-baselines3's default in both
CASES = {
    "td3": Case("td3", half_cheetah, COMMON, OFF_POLICY, "MlpPolicy", 400, 40),
    "td3_wrapper": Case("td3", half_cheetah, COMMON, {}, "MlpPolicy", 1000, None),
    "sac": Case("sac", half_cheetah, COMMON, OFF_POLICY, "MlpPolicy", 400, 40),
    "ppo": Case("ppo", half_cheetah, PPO, PPO, "MlpPolicy", 2048, 512, warm_up=512),
    "dqn_cartpole": Case(
        "dqn", cart_pole, COMMON | EPSILON, DQN | {"policy_kwargs": {"net_arch": [64, 64]}}, "MlpPolicy", 4000, 600
    ),
    "dqn_atari": Case("dqn", atari, COMMON | EPSILON, DQN, "CnnPolicy", 400, 40),
    "dqn_atari_256": Case("dqn", atari, COMMON | EPSILON | EVERY_STEP, DQN | THEIR_EVERY_STEP, "CnnPolicy", 25, None),
    "rainbow_atari": Case("rainbow", atari, RAINBOW, DQN, "CnnPolicy", 400, None),
}
OURS = {"td3": td3.TD3, "sac": sac.SAC, "ppo": ppo.PPO, "dqn": dqn.DQN, "rainbow": rainbow.Rainbow}
THEIRS = {"td3": "TD3", "sac": "SAC", "ppo": "PPO", "dqn": "DQN", "rainbow": "DQN"}


# --- the three ------------------------------------------------------------------------------------------------------


def ours(case: Case, directory: Path) -> OnlineTraining:
    """Our loop with the agent's own yaml, without evaluations and checkpoints."""
    cls = OURS[case.agent]
    values = yaml.safe_load((conf_root() / f"agent/{case.agent}.yaml").read_text()) | case.changes
    config = TypeAdapter(sys.modules[cls.__module__].Config).validate_python(values)
    env = case.make_env()
    gen = torch.Generator().manual_seed(0)
    agent = cls(config, env.observation_space, env.action_space, env_steps=NEVER, device="cpu", gen=gen)
    return OnlineTraining(
        agent,
        agent.explorer(),
        [env],
        seed=0,
        schedule=Schedule(0, evaluate_every=NEVER, log_every=1000, checkpoint_every_s=NEVER),
        evaluate=lambda clock: None,
        log=RunLog(directory),
        checkpoints=Checkpoints(directory / "checkpoint"),
        stop=Stop(),
        report=lambda clock, facts: None,
    )


def go_on(training: OnlineTraining) -> Train:
    def train(env_steps: int) -> None:
        training.schedule.length += env_steps
        training.run()

    return train


def theirs(library: str, case: Case) -> Train:
    """stable-baselines3's or sbx's loop with the same hyper-parameters."""
    module = __import__(library)
    settings = dict(case.theirs)
    if case.agent == "td3":
        from stable_baselines3.common.noise import NormalActionNoise

        n = case.make_env().action_space.shape[0]
        settings["action_noise"] = NormalActionNoise(np.zeros(n), np.full(n, 0.1))
    if library == "stable_baselines3":
        settings["device"] = "cpu"
    cls = getattr(module, THEIRS[case.agent])
    model = cls(case.policy, case.make_env(), seed=0, **settings)
    return lambda env_steps: model.learn(env_steps, reset_num_timesteps=False)


# --- measuring ------------------------------------------------------------------------------------------------------


def race(runners: dict[str, Train], env_steps: int, warm_up: int) -> dict[str, float]:
    """Median seconds of an env_step of each; segments take turns, so that whatever the machine does meets all alike."""
    for train in runners.values():
        train(warm_up)
    seconds: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(SEGMENTS):
        for name, train in runners.items():
            start = processor_seconds()
            train(env_steps)
            seconds[name].append(processor_seconds() - start)
    return {name: median(times) / env_steps for name, times in seconds.items()}


def processor_seconds() -> float:
    """Of this process and of its children that live: a wrapper's sandbox."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    clocks = [~int(pid) << 3 | 2 for pid in children]  # Linux's number for a process's own clock
    return time.process_time() + sum(map(time.clock_gettime, clocks))


def random_action(env: gym.Env, rng: np.random.Generator) -> Any:
    space = env.action_space
    return rng.integers(space.n) if isinstance(space, gym.spaces.Discrete) else rng.uniform(space.low, space.high)


def bare(case: Case, directory: Path) -> Train:
    """What no loop can do without: per env_step the environment's step, one greedy forward pass of the network that
    acts, and the updates that belong to the step. Not exploration, the replay buffer, and the loop itself."""
    training = ours(case, directory)
    go_on(training)(case.warm_up)
    env, agent, obs = training.slots[0].env, training.agent, training.slots[0].obs
    rate = agent.config.n_epochs / agent.config.batch_size if case.agent == "ppo" else agent.config.updates_per_env_step
    rng = np.random.default_rng(0)
    batch = next(training.replay_buffer.batches(getattr(training.replay_buffer, "minibatches", 1), rng, agent))

    def train(env_steps: int) -> None:
        nonlocal obs
        for i in range(env_steps):
            agent.act(obs[None], explore=False, gen=training.gen_act)
            obs, _, terminated, truncated, _ = env.step(random_action(env, rng))
            if terminated or truncated:
                obs, _ = env.reset()
            for _ in range(math.floor((i + 1) * rate) - math.floor(i * rate)):
                agent.update(batch)

    return train


def compare(name: str, case: Case, quick: bool) -> None:
    with tempfile.TemporaryDirectory() as directory, tempfile.TemporaryDirectory() as other:
        runners = {"ours": go_on(ours(case, Path(directory))), "bare": bare(case, Path(other))}
        runners["stable-baselines3"] = theirs("stable_baselines3", case)
        reason = "is not installed: pip install -e '.[bench]'"
        if case.policy == "CnnPolicy" and (quick or case.quick is None):
            reason = "is left out: its convolutions take minutes on a CPU"
        elif find_spec("sbx"):
            runners["sbx"], reason = theirs("sbx", case), ""
        length = (quick and case.quick) or case.env_steps
        seconds = race(runners, length, case.warm_up + min(length, 20 if quick else 200))
    mine, alone = seconds.pop("ours"), seconds.pop("bare")
    for library, its in seconds.items():
        print(f"{name} ours {1 / mine:.1f} {library} {1 / its:.1f} ratio to {library} {its / mine:.2f}x")
    if reason:
        print(f"{name} sbx {reason}")
    on_top = f"{(mine - alone) * 1e6:.0f} us or {100 * (mine / alone - 1):.1f} %"
    parts = f"environment step, update and one greedy forward pass of the acting network {alone * 1e6:.0f} us"
    print(f"{name} per env_step: {parts}; whole loop {mine * 1e6:.0f} us, on top {on_top}", flush=True)


def compare_wrapper(name: str, case: Case) -> None:
    """TD3 with a pair of LESR's, as a candidate is trained, beside TD3 without."""
    with tempfile.TemporaryDirectory() as directory, tempfile.TemporaryDirectory() as other:
        pair = Path(directory) / "pair.py"
        pair.write_text(scripted_lesr.program(scripted_lesr.TASKS["HalfCheetah"][:FEATURES], d=17))
        config = lesr_wrapper.Config(
            artifact=str(pair), w=0.02, state="augmented", reward="add", form="state", record="episode", scaled=False,
            drop=(),
        )  # fmt: skip
        made: list[lesr_wrapper.LESRWrapper] = []

        def wrapped() -> gym.Env:
            made.append(lesr_wrapper.LESRWrapper(case.make_env(), config, "train", gamma=0.99))
            return made[-1]

        runners = {
            "with": go_on(ours(replace(case, make_env=wrapped), Path(directory))),
            "without": go_on(ours(case, Path(other))),
        }
        seconds = race(runners, case.env_steps, case.warm_up + 20)
        layers = ", ".join(made[0].facts()["sandbox"])
        made[0].close()
    speeds = " ".join(f"{way} {1 / each:.1f}" for way, each in seconds.items())
    ratio = seconds["without"] / seconds["with"]
    on_top = (seconds["with"] - seconds["without"]) * 1e6
    print(f"{name} {speeds} ratio {ratio:.3f}x, on top {on_top:.0f} us a step ({FEATURES} features; sandbox: {layers})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=CASES)
    parser.add_argument(
        "--quick", action="store_true", help="shorter segments, noisier, without the three longest cases"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"env_steps/s, core {CORE}, one thread, torch {torch.__version__}; median of {SEGMENTS} segments", flush=True)
    for name, case in CASES.items():
        if args.only == name or (args.only is None and not (args.quick and case.quick is None)):
            if name == "td3_wrapper":
                compare_wrapper(name, case)
            else:
                compare(name, case, args.quick)


if __name__ == "__main__":
    main()

"""How many env_steps a second our training does, beside its peers: stable-baselines3, sbx, TorchRL and CleanRL.

One core, one thread, the same environment and hyper-parameters for all; a peer runs in a process of its own (peers.py).
Each trains for 1,500 updates before anything is measured: numbers that Adam keeps for dead units become denormal some
700 updates after their last gradient, and slow what does not flush them. Then segments of training take turns, so that
a ratio is of two segments side by side; their median is printed, and between what the middle half of them lies. Seconds
are those that a process had the core, so that what else runs on it does not count.

Rainbow stands beside stable-baselines3's DQN, since it has no Rainbow. `dqn_atari_256` is LLM-Explorer's setting:
batches of 256, an update every step. `td3_wrapper` is ours beside ours: TD3 with five of LESR's features, its reward
and its records, as a candidate trains, beside TD3 without; the sandbox's processor time counts.

`--quick` measures fewer segments after 20 updates, beside stable-baselines3 and sbx alone. docs/speed.md has the
numbers, and says how to get CleanRL.

Usage: python scripts/bench_training.py [--only td3|td3_wrapper|sac|ppo|dqn_cartpole|dqn_atari|dqn_atari_256|
                                         rainbow_atari] [--quick] [--peers NAME …] [--cleanrl DIR]
"""

import argparse
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from statistics import median, quantiles
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
from peers import PEERS, PPO, REPLAY, WARM_UP, Process, Train, atari, cart_pole, half_cheetah  # noqa: E402
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

SEGMENTS, QUICK_SEGMENTS = 40, 5  # many short ones: what else runs beside them then meets all alike
UPDATES, QUICK_UPDATES = 1500, 20  # of the warm-up
FEATURES = 5  # of the wrapper; as many as the authors' published program for HalfCheetah adds
NEVER = 10**9


@dataclass(frozen=True)
class Case:
    """One comparison. `changes` are to our yaml; peers.CASES says the same to the peers."""

    agent: str
    make_env: Callable[[], gym.Env]
    changes: dict[str, Any]
    env_steps: int  # of a segment
    quick: bool = True  # also with --quick
    warm_up: int = WARM_UP  # env_steps after which the replay buffer can give batches
    steps_per_update: float = 1
    rollout: int = 1  # env_steps between which all updates are made

    def settling(self, quick: bool) -> int:
        """env_steps before the first segment."""
        updates = QUICK_UPDATES if quick else UPDATES
        return self.warm_up + math.ceil(updates * self.steps_per_update / self.rollout) * self.rollout


COMMON = {"replay_size": REPLAY, "learning_starts": WARM_UP, "random_steps": WARM_UP}
EPSILON = {"epsilon_start": 0.05, "epsilon_end": 0.05}
EVERY_STEP = {"batch_size": 256, "updates_per_env_step": 1}
RAINBOW = {"replay_size": REPLAY, "learning_starts": WARM_UP}
ROLLOUT = PPO["n_steps"]
CASES = {
    "td3": Case("td3", half_cheetah, COMMON, 40),
    "td3_wrapper": Case("td3", half_cheetah, COMMON, 100, quick=False),
    "sac": Case("sac", half_cheetah, COMMON, 40),
    "ppo": Case("ppo", half_cheetah, PPO, ROLLOUT, warm_up=ROLLOUT, steps_per_update=6.4, rollout=ROLLOUT),
    "dqn_cartpole": Case("dqn", cart_pole, COMMON | EPSILON, 400, steps_per_update=4),
    "dqn_atari": Case("dqn", atari, COMMON | EPSILON, 40, steps_per_update=4),
    "dqn_atari_256": Case("dqn", atari, COMMON | EPSILON | EVERY_STEP, 5, quick=False),
    "rainbow_atari": Case("rainbow", atari, RAINBOW, 40, quick=False, steps_per_update=4),
}
OURS = {"td3": td3.TD3, "sac": sac.SAC, "ppo": ppo.PPO, "dqn": dqn.DQN, "rainbow": rainbow.Rainbow}


# --- ours -----------------------------------------------------------------------------------------------------------


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


# --- measuring ------------------------------------------------------------------------------------------------------


def race(runners: dict[str, Train], case: Case, quick: bool) -> dict[str, list[float]]:
    """Seconds of an env_step in each segment; they take turns, so that whatever the machine does meets all alike."""
    for train in runners.values():
        train(case.settling(quick))
    seconds: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(QUICK_SEGMENTS if quick else SEGMENTS):
        for name, train in runners.items():
            start = processor_seconds()
            train(case.env_steps)
            seconds[name].append((processor_seconds() - start) / case.env_steps)
    return seconds


def processor_seconds() -> float:
    """Of this process and of its children that live: the peers, a wrapper's sandbox."""
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


def compare(name: str, case: Case, args: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as directory, tempfile.TemporaryDirectory() as other, ExitStack() as stack:
        runners: dict[str, Train] = {"ours": go_on(ours(case, Path(directory))), "bare": bare(case, Path(other))}
        missing = {}
        for library, peer in PEERS.items():
            if reason := absent(library, name, args):
                missing[library] = reason
            elif name in peer.cases and library in args.peers:
                options = ["--cleanrl", str(args.cleanrl.resolve())] if library == "cleanrl" else []
                runners[library] = Process(library, name, *options)
                stack.callback(runners[library].close)
        rounds = race(runners, case, args.quick)
    seconds = {library: median(times) for library, times in rounds.items()}
    mine, alone = seconds.pop("ours"), seconds.pop("bare")
    for library, its in seconds.items():
        ratios = [theirs / own for theirs, own in zip(rounds[library], rounds["ours"])]
        low, _, high = quantiles(ratios, n=4)
        spread = f"half of the segments {low:.2f} to {high:.2f}"
        speeds = f"{name} ours {1 / mine:.1f} {library} {1 / its:.1f}"
        print(f"{speeds}, {spread}, ratio to {library} {median(ratios):.2f}x")
    for library, reason in missing.items():
        print(f"{name} {library} {reason}")
    on_top = f"{(mine - alone) * 1e6:.0f} us or {100 * (mine / alone - 1):.1f} %"
    parts = f"environment step, update and one greedy forward pass of the acting network {alone * 1e6:.0f} us"
    print(f"{name} per env_step: {parts}; whole loop {mine * 1e6:.0f} us, on top {on_top}", flush=True)


def absent(library: str, name: str, args: argparse.Namespace) -> str:
    """Why a peer that was asked for is not measured; nothing if it is, or has no such case."""
    if library not in args.peers or name not in PEERS[library].cases:
        return ""
    if not find_spec(PEERS[library].module):
        return "is not installed: pip install -e '.[bench]'"
    if library == "cleanrl" and args.cleanrl is None:
        return "is left out: --cleanrl says where its release is unpacked"
    if library == "sbx" and name == "dqn_atari" and args.quick:
        return "is left out: its convolutions take minutes on a CPU"
    return ""


def compare_wrapper(name: str, case: Case, quick: bool) -> None:
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
        rounds = race(runners, case, quick)
        layers = ", ".join(made[0].facts()["sandbox"])
        made[0].close()
    seconds = {way: median(times) for way, times in rounds.items()}
    speeds = " ".join(f"{way} {1 / each:.1f}" for way, each in seconds.items())
    ratio = seconds["without"] / seconds["with"]
    on_top = (seconds["with"] - seconds["without"]) * 1e6
    print(f"{name} {speeds} ratio {ratio:.3f}x, on top {on_top:.0f} us a step ({FEATURES} features; sandbox: {layers})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=CASES)
    parser.add_argument("--quick", action="store_true", help="some minutes in all; noisier, and short of denormals")
    parser.add_argument("--peers", nargs="+", choices=PEERS, metavar="NAME", help=f"of {', '.join(PEERS)}")
    parser.add_argument("--cleanrl", type=Path, metavar="DIR", help="where CleanRL's release is unpacked")
    args = parser.parse_args()
    args.peers = args.peers or [name for name, peer in PEERS.items() if peer.quick or not args.quick]
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # as a run does; of this process, so not of the peers
    updates, segments = (QUICK_UPDATES, QUICK_SEGMENTS) if args.quick else (UPDATES, SEGMENTS)
    how = f"median of {segments} segments, after {updates:,} updates{' (too few for denormals)' if args.quick else ''}"
    print(f"env_steps/s, core {CORE}, one thread, torch {torch.__version__}; {how}")
    print("peers:", ", ".join(f"{name} {PEERS[name].version(args.cleanrl)}" for name in args.peers), flush=True)
    for name, case in CASES.items():
        if args.only == name or (args.only is None and not (args.quick and not case.quick)):
            if name == "td3_wrapper":
                compare_wrapper(name, case, args.quick)
            else:
                compare(name, case, args)


if __name__ == "__main__":
    main()

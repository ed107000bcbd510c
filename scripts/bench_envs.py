"""How many env_steps a second the simulators of our own make.

The pick-and-place table with the policy that knows the truth and nothing skipped, on one core: the policy's own time is
in it, masks are drawn before, as they are once in a run. CLEVR-Robot with random pushes: one scene, and many side by
side on one core and on two, each round beside MuJoCo alone on the same kind of scenes.

Usage: python scripts/bench_envs.py [--env-steps 3000] [--rounds 7] [--only pick_place | clevr_robot]
"""

import argparse
import os
import sys
import time
from pathlib import Path
from statistics import median

os.environ["OMP_NUM_THREADS"] = "1"
CORES = sorted(os.sched_getaffinity(0))
os.sched_setaffinity(0, {CORES[-1]})
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import gymnasium as gym  # noqa: E402
import numpy as np  # noqa: E402

from llmrl.envs import clevr_robot  # noqa: E402
from llmrl.envs.clevr_robot.batch import Scenes  # noqa: E402
from llmrl.envs.clevr_robot.model import DIRECTIONS, SUBSTEPS, compiled  # noqa: E402
from llmrl.envs.pick_place import oracle  # noqa: E402
from llmrl.envs.pick_place.letters import FINE, YAWS, extent, phases  # noqa: E402

# what is made, and the share of --env-steps that it plays
ROWS = {
    "analytic, short horizon": ({"horizon": "short"}, 1.0),
    "analytic, long horizon": ({"horizon": "long"}, 1.0),
    "physics, short horizon": ({"horizon": "short", "mode": "physics"}, 0.05),
    "physics, long horizon": ({"horizon": "long", "mode": "physics"}, 0.05),
}


def warm(env: gym.Env) -> None:
    """Everything that is computed once for a letter, its size and its yaw."""
    for name in set(env.config.letters):
        for yaw in range(YAWS):
            shape = (name, env.config.letter_scale, yaw)
            oracle.grasp(*shape), extent(*shape), phases(*shape, FINE), phases(*shape, 2 * FINE)


def steps_per_second(env: gym.Env, env_steps: int, seed: int) -> tuple[float, float]:
    """Of whole episodes, resets included: by the clock, and by the time that this process computed."""
    done, begin, cpu = 0, time.perf_counter(), time.process_time()
    while done < env_steps:
        obs, info = env.reset(seed=seed + done)
        over = False
        while not over:
            obs, _, over, _, info = env.step(oracle.act(info["truth"], obs["position"]))
            done += 1
    return done / (time.perf_counter() - begin), done / (time.process_time() - cpu)


def pick_place(args: argparse.Namespace) -> None:
    for name, (options, share) in ROWS.items():
        env_steps = max(1, round(share * args.env_steps))
        env = gym.make("llmrl/PickPlace-v0", disable_env_checker=True, **options).unwrapped
        warm(env)
        steps_per_second(env, 12, seed=0)
        rounds = [steps_per_second(env, env_steps, seed=i * env_steps) for i in range(args.rounds)]
        clock, cpu = (median(r[i] for r in rounds) for i in (0, 1))
        print(
            f"{name:28} {clock:6,.0f} env_steps/s (median of {args.rounds}, best {max(rounds)[0]:,.0f}; "
            f"by CPU seconds {cpu:,.0f})"
        )


def mujoco_alone(states: np.ndarray, env_steps: int, rng: np.random.Generator) -> None:
    """Pushes and nothing else: what the rest is measured against."""
    import mujoco

    data = mujoco.MjData(compiled())
    for i in range(env_steps):
        ball, direction = divmod(int(rng.integers(40)), len(DIRECTIONS))
        if i % 50 == 0:  # as long as an episode
            state = states[i // 50 % len(states)]
            data.qpos[:], data.qvel[:] = state[:37], state[37:]
        data.qpos[-2:] = data.qpos[7 * ball : 7 * ball + 2] - 0.15 * DIRECTIONS[direction]
        data.qvel[-2:], data.ctrl[:], data.qacc_warmstart[:] = 0, DIRECTIONS[direction], 0
        mujoco.mj_step(compiled(), data, SUBSTEPS)


def one_scene(env: gym.Env, env_steps: int, rng: np.random.Generator) -> None:
    over = True
    for i in range(env_steps):
        if over:
            env.reset(seed=i)
        _, _, terminated, truncated, _ = env.step(int(rng.integers(40)))
        over = terminated or truncated


def many_scenes(scenes: Scenes, start: dict, env_steps: int, rng: np.random.Generator) -> None:
    n = len(start["goals"])
    for i in range(env_steps // n):
        if i % 50 == 0:
            scenes.reset(**start)
        scenes.step(rng.integers(40, size=n))


def clevr_robot_rows(args: argparse.Namespace) -> None:
    env = gym.make("llmrl/ClevrRobot-v0", disable_env_checker=True).unwrapped
    states = np.stack([env.reset(seed=i)[1]["state"] for i in range(128)])
    start = {"goals": np.stack([clevr_robot.goals.BASE[i % 80] for i in range(128)]), "states": states}
    one = Scenes(env.config, threads=1)
    os.sched_setaffinity(0, set(CORES[-2:]))  # threads keep the cores that they were made with
    two = Scenes(env.config, threads=2)
    plays = {
        "MuJoCo alone": lambda rng: mujoco_alone(states, args.env_steps, rng),
        "one scene": lambda rng: one_scene(env, args.env_steps, rng),
        "128 scenes, 1 thread": lambda rng: many_scenes(one, start, args.env_steps, rng),
        "128 scenes, 2 threads": lambda rng: many_scenes(two, start, args.env_steps, rng),
    }
    rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in plays}
    for i in range(args.rounds):
        for name, play in plays.items():
            os.sched_setaffinity(0, set(CORES[-2:]) if "2 threads" in name else {CORES[-1]})
            begin, cpu = time.perf_counter(), time.process_time()
            play(np.random.default_rng(i))
            rounds[name].append((time.perf_counter() - begin, time.process_time() - cpu))
    steps = args.env_steps
    for name, times in rounds.items():
        clock, cpu = (median(steps / t[i] for t in times) for i in (0, 1))
        share = median(t[1] / alone[1] for t, alone in zip(times, rounds["MuJoCo alone"], strict=True))
        print(
            f"CLEVR-Robot, {name:22} {clock:6,.0f} env_steps/s (median of {args.rounds}; by CPU seconds {cpu:,.0f}, "
            f"{share:.2f} times MuJoCo's)"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--env-steps", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", choices=["pick_place", "clevr_robot"])
    args = parser.parse_args()
    if args.only != "clevr_robot":
        pick_place(args)
    if args.only != "pick_place":
        clevr_robot_rows(args)


if __name__ == "__main__":
    main()

"""Trains stable-baselines3's TD3 at the hyper-parameters of our agent=td3, and evaluates it on our evaluation cases.

    python scripts/sb3_baseline.py --env mujoco/half_cheetah --env-steps 50000 --learning-starts 10000 --seed 0

Writes outputs/sb3/<env>/s<seed>/eval.jsonl in the form of a run's eval.jsonl, so that both can be compared row by row.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from stable_baselines3 import TD3
from stable_baselines3.common.noise import NormalActionNoise

from llmrl.build import make_env
from llmrl.config import from_node
from llmrl.hydra_compose import compose
from llmrl.runs.evaluate import cases, evaluate
from llmrl.runs.stop import Stop


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--env", default="mujoco/half_cheetah")
    parser.add_argument("--env-steps", type=int, default=50_000)
    parser.add_argument("--learning-starts", type=int, default=10_000)
    parser.add_argument("--eval-every", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    overrides = [f"env={args.env}", "agent=td3", f"budget.env_steps={args.env_steps}"]
    config = from_node(compose(overrides), overrides)
    agent = config.agent
    env = make_env(config, "train")
    noise = NormalActionNoise(np.zeros(env.action_space.shape), agent.exploration_noise * env.action_space.high)
    model = TD3(
        "MlpPolicy",
        env,
        learning_rate=agent.actor_learning_rate,
        buffer_size=agent.replay_size,
        learning_starts=args.learning_starts,
        batch_size=agent.batch_size,
        tau=agent.tau,
        gamma=agent.gamma,
        train_freq=1,
        gradient_steps=1,
        action_noise=noise,
        policy_delay=agent.policy_delay,
        target_policy_noise=agent.target_noise,
        target_noise_clip=agent.target_noise_clip,
        policy_kwargs={"net_arch": list(agent.hidden)},
        seed=args.seed,
    )
    out = Path("outputs/sb3") / args.env.replace("/", "-") / f"s{args.seed}"
    out.mkdir(parents=True, exist_ok=True)

    def act(obs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return model.predict(obs, deterministic=True)[0]

    suite, start = cases(config.eval.seed, "eval", 10), time.time()
    with open(out / "eval.jsonl", "w") as file:
        for env_steps in range(args.eval_every, args.env_steps + 1, args.eval_every):
            model.learn(args.eval_every, reset_num_timesteps=False)
            scores = evaluate(act, make_env(config, "eval"), suite, 27_000, Stop())
            row = {"env_steps": env_steps, "policy": "greedy", **scores.row()}
            file.write(json.dumps(row) + "\n")
            file.flush()
            print(
                f"{env_steps:,} env_steps {row['return_mean']:.1f} after {time.time() - start:.0f} s", file=sys.stderr
            )


if __name__ == "__main__":
    main()

"""From the checked Config to objects. build.py makes factories; a method calls them, since only it knows when."""

import io
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch

from llmrl.agents.base import Agent
from llmrl.checks import ConfigError
from llmrl.conf_files import options
from llmrl.config import Config, class_of, module_of
from llmrl.explore.base import Clock, Explorer
from llmrl.llm.client import LLM
from llmrl.llm.transcript import Transcript
from llmrl.loops.online import OnlineTraining, Schedule
from llmrl.runs import seeding
from llmrl.runs.checkpoint import Checkpoints
from llmrl.runs.evaluate import Act, cases, evaluate, uniform_policy, with_epsilon
from llmrl.runs.files import write_bytes
from llmrl.runs.log import RunLog
from llmrl.runs.stop import Stop

Report = Callable[[Clock, dict], None]  # where training stands, and facts worth showing a person


def set_up_torch(config: Config) -> None:
    """Threads and the device, before anything is built. Raises ConfigError where the device is not there."""
    torch.set_num_threads(config.compute.threads)
    device = config.compute.device
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdigit()):
        raise ConfigError(f"compute.device: `{device}` is no device; use cpu, cuda or cuda:<number>")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"compute.device: {device} asked for, but torch {torch.__version__} sees {torch.cuda.device_count()} GPUs. "
            "Use compute.device=cpu, or look at `llmrl doctor`."
        )


def make_env(config: Config, role: str, *, render: bool = False) -> gym.Env:
    """An environment for "train" or "eval"; `render` makes env.render() return pictures."""
    return module_of("env", config.env.suite).make(config.env, role, render=render)


def make_agent(config: Config, env: gym.Env, *, env_steps: int) -> Agent:
    """The agent for the spaces of `env`, with networks from the run's own stream. ConfigError where they do not fit."""
    cls = class_of(module_of("agent", config.choices["agent"]), "act")
    kind = "discrete" if isinstance(env.action_space, gym.spaces.Discrete) else "continuous"
    if cls.actions != kind:
        names = [n for n in options("agent") if class_of(module_of("agent", n), "act").actions == kind]
        raise ConfigError(
            f"agent={config.choices['agent']} acts in {cls.actions} actions, but env={config.choices['env']} has "
            f"{kind} ones ({env.action_space}). Agents for it: {', '.join(names)}."
        )
    return cls(
        config.agent,
        env.observation_space,
        env.action_space,
        env_steps=env_steps,
        device=torch.device(config.compute.device),
        gen=seeding.torch_generator(config.seed, "agent"),
    )


def greedy(agent: Agent, seed: int) -> Act:
    """How an agent acts when it is evaluated; `seed` feeds those whose policy is stochastic."""
    gen = torch.Generator().manual_seed(seed)
    return lambda obs, rng: agent.act(obs, explore=False, gen=gen)


class RunContext:
    """What a method has in hand: the configuration, and factories for all that it may need."""

    def __init__(self, config: Config, directory: Path, stop: Stop, log: RunLog, report: Report) -> None:
        self.cfg = config
        self.dir = directory
        self.stop = stop
        self.log = log
        self.report = report
        self.checkpoints = Checkpoints(directory / "checkpoint")

    def env(self, role: str) -> gym.Env:
        return make_env(self.cfg, role)

    @property
    def action_space(self) -> gym.Space:
        return self._eval_env.action_space

    def agent(self) -> Agent:
        return make_agent(self.cfg, self._eval_env, env_steps=self.cfg.budget.env_steps)

    @cached_property
    def llm(self) -> LLM:
        return LLM(self.cfg.llm, Transcript(self.dir / "llm.jsonl"), self.stop, self.log.timing)

    def train(self, agent: Agent, explorer: Explorer) -> dict[str, Any]:
        """Trains online to the end of the budget, from the newest checkpoint if there is one. Returns what came out."""
        cfg = self.cfg
        training = OnlineTraining(
            agent,
            explorer,
            [self.env("train") for _ in range(cfg.agent.n_envs)],
            seed=cfg.seed,
            schedule=Schedule(cfg.budget.env_steps, cfg.eval.every, cfg.log.every, cfg.compute.checkpoint_every_s),
            evaluate=lambda clock: self._evaluate(agent, clock),
            log=self.log,
            checkpoints=self.checkpoints,
            stop=self.stop,
            report=self.report,
        )
        clock = training.run()
        packed = io.BytesIO()  # torch itself would turn a full disk into a RuntimeError
        torch.save(agent.state_dict(), packed)
        write_bytes(self.dir / "agent.pt", packed.getvalue())
        return {"env_steps": clock.env_steps, "updates": clock.updates, "episodes": clock.episodes}

    @cached_property
    def _eval_env(self) -> gym.Env:
        return self.env("eval")

    def _evaluate(self, agent: Agent, clock: Clock) -> None:
        """Writes a row of the agent's returns, and before training one of the random policy's on the same cases."""
        cfg, env = self.cfg.eval, self._eval_env
        start = time.perf_counter()
        suite = cases(cfg.seed, "eval", cfg.episodes)
        act = with_epsilon(greedy(agent, clock.env_steps), cfg.epsilon, env.action_space)
        rows = [{"policy": "greedy", **evaluate(act, env, suite, cfg.max_steps, self.stop).row()}]
        if clock.env_steps == 0:
            random = evaluate(uniform_policy(env.action_space), env, suite, cfg.max_steps, self.stop)
            rows.insert(0, {"policy": "random", **random.row()})
        for row in rows:
            self.log.evaluation({"env_steps": clock.env_steps, "updates": clock.updates, **row})
        took = {"seconds": time.perf_counter() - start, "eval_env_steps": sum(sum(row["lengths"]) for row in rows)}
        self.log.timing({"event": "evaluation", "env_steps": clock.env_steps, **took})
        self.report(clock, {"eval": rows[-1]["return_mean"]})

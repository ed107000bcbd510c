"""From the checked Config to objects. build.py makes factories; a method calls them, since only it knows when."""

import io
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from functools import cached_property, partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from llmrl.checks import ConfigError, raised
from llmrl.conf_files import options
from llmrl.config import Config, agent_of, from_node, identity, method_of, module_of, run_path
from llmrl.contracts.agent import Agent, executed
from llmrl.contracts.explorer import Clock, Explorer
from llmrl.envs.base import PROGRAM, Transform, check_spaces
from llmrl.envs.history import History, WithHistory
from llmrl.limits import allocating, check_fits, check_parallel
from llmrl.llm.client import LLM
from llmrl.llm.transcript import Transcript
from llmrl.loops import offline
from llmrl.loops.evaluation_pool import EvaluationPool
from llmrl.loops.offline import Source
from llmrl.loops.online import OnlineTraining, Schedule
from llmrl.runs import seeding
from llmrl.runs.checkpoint import Checkpoints
from llmrl.runs.children import BAD_INPUT, CODES, ChildEnded, prepare, run_all
from llmrl.runs.evaluate import Act, Case, Scores, cases, evaluate, evaluate_together, uniform_policy, with_epsilon
from llmrl.runs.files import read_json, remove_empty, topmost_missing, write_bytes, write_json, write_text
from llmrl.runs.identity import DONE, PAUSED
from llmrl.runs.learned import composed, learned
from llmrl.runs.log import RunLog
from llmrl.runs.stop import Paused, Stop

TRANSFORM = "transform.json"  # in a run whose method chose its transform
Report = Callable[[Clock, dict], None]  # where training stands, and facts worth showing a person


def set_up_torch(config: Config) -> None:
    """Threads and the device, before anything is built. Raises ConfigError where the device is not there."""
    parallel = {"compute.threads": config.compute.threads, "compute.workers": config.compute.workers}
    for key, n in (parallel | {"eval.workers": config.eval.workers}).items():
        check_parallel(key, n)
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
    """An environment for "train" or "eval", with its transform; `render` makes env.render() return images."""
    try:
        env = module_of("env", config.env.suite).make(config.env, role, render=render)
    except ConfigError:
        raise
    except Exception as error:  # whatever a constructor raises: an environment is somebody's own code
        name = f"env.id={config.env.id}" if hasattr(config.env, "id") else f"env={config.choices['env']}"
        raise ConfigError(f"{name} cannot be made: {raised(error)}") from error
    check_spaces(env, f"env={config.choices['env']}")
    if (context := getattr(config.agent, "context", None)) is not None:  # an agent that acts by what happened before
        env = WithHistory(env, context)
    if (transform := getattr(config.env, "transform", None)) is None:
        return env
    from llmrl.methods.lesr.transform import Transformed

    return Transformed(env, transform, role, gamma=getattr(config.agent, "gamma", 1.0))


def make_agent(config: Config, env: gym.Env, *, env_steps: int) -> Agent:
    """The agent for the spaces of `env`, with networks from the run's own stream. ConfigError where they do not fit."""
    cls = agent_of(config.choices["agent"])
    kind = "discrete" if isinstance(env.action_space, gym.spaces.Discrete) else "continuous"
    if cls.actions not in (kind, "both"):
        names = [name for name in options("agent") if _actions_of(name) in (kind, "both")]
        raise ConfigError(
            f"agent={config.choices['agent']} acts in {cls.actions} actions, but env={config.choices['env']} has "
            f"{kind} ones ({env.action_space}). Agents for it: {', '.join(names)}."
        )
    sizes = {f.name: getattr(config.agent, f.name) for f in fields(config.agent)}
    sizes = {k: list(v) for k, v in sizes.items() if isinstance(v, tuple)} or sizes
    with allocating(f"The networks of agent={config.choices['agent']} ({_listed(sizes)})"):
        return cls(
            config.agent,
            env.observation_space,
            env.action_space,
            env_steps=env_steps,
            device=torch.device(config.compute.device),
            gen=seeding.torch_generator(config.seed, "agent"),
        )


def check_replay_buffer(config: Config, agent: Agent) -> None:
    """Raises ConfigError where the agent's replay buffer, or a batch of it, does not fit into this machine's."""
    sizes = {k: getattr(config.agent, k) for k in ("replay_size", "n_steps", "n_envs") if hasattr(config.agent, k)}
    with allocating(f"The replay buffer of agent={config.choices['agent']} ({_listed(sizes)})"):
        rings = agent.replay_buffer().rings().values()
        for ring in rings:
            row = sum(column[:1].nbytes for column in getattr(ring, "columns", {}).values())
            if (n := getattr(config.agent, "batch_size", None)) is not None:
                check_fits(f"A batch of agent.batch_size={n:,}", n * row)


def _listed(sizes: dict[str, Any]) -> str:
    return ", ".join(f"agent.{key}={value}" for key, value in sizes.items())


def _actions_of(agent: str) -> str:
    """discrete, continuous or both; empty for a user's own that cannot be imported: it is not what is asked about."""
    try:
        return agent_of(agent).actions
    except Exception:  # noqa: BLE001
        return ""


def suite_cases(config: Config, name: str) -> list[Case]:
    """The cases of a suite that the environment's module knows by name. Raises ConfigError where it knows no such."""
    module = module_of("env", config.env.suite)
    known = getattr(module, "SUITES", ())
    if name not in known:
        there = f"There are: {', '.join(known)}." if known else "It has none: use eval.suites=[]."
        raise ConfigError(f"eval.suites: env={config.choices['env']} has no suite `{name}`. {there}")
    each = config.eval.suite_episodes
    episodes = each.get(name) if isinstance(each, dict) else each
    suite = cases(config.eval.seed, name, episodes or config.eval.episodes)
    return [
        replace(case, options=module.case_options(config.env, name, seeding.generator(case.seed, "options")))
        for case in suite
    ]


def greedy(agent: Agent) -> Act:
    """How an agent acts when it is evaluated; what a stochastic policy draws follows from the episode's generator, so
    that a case is the same whoever plays it, and after whichever others."""
    gen = torch.Generator()

    def act(obs: Any, rng: np.random.Generator) -> NDArray:
        gen.manual_seed(int(rng.integers(2**31)))
        return executed(agent, agent.act(obs, explore=False, gen=gen))

    return act


def evaluated(agent: Agent, config: Config, env: gym.Env) -> Act:
    """The greedy policy with the evaluation's epsilon."""
    return with_epsilon(greedy(agent), config.eval.epsilon, env.action_space)


def evaluation_worker(config: Config) -> tuple[gym.Env, Agent, Act, int]:
    """What a process of an EvaluationPool holds."""
    set_up_torch(config)
    env = make_env(config, "eval")
    agent = make_agent(config, env, env_steps=config.budget.env_steps)
    return env, agent, evaluated(agent, config, env), config.eval.max_steps


def as_trained(config: Config, directory: Path) -> Config:
    """The configuration that a run's agent is trained with: with the transform that its method gave it, if any."""
    if not (directory / TRANSFORM).exists():
        return config
    transform = Transform(**read_json(directory / TRANSFORM) | {"artifact": str(directory / PROGRAM)})
    return replace(config, env=replace(config.env, transform=transform))


def mean_facts(facts: list[dict[str, Any]]) -> dict[str, Any]:
    """Of n environments side by side the mean of every number; words are alike in all."""
    sandbox = {"sandbox": facts[0]["sandbox"]}
    return {key: np.mean([f[key] for f in facts], axis=0).tolist() for key in facts[0] if key not in sandbox} | sandbox


class RunContext:
    """What a method has in hand: the configuration, and factories for all that it may need."""

    def __init__(
        self,
        config: Config,
        directory: Path,
        stop: Stop,
        log: RunLog,
        report: Report,
        status: Callable[..., None] = lambda status, **facts: None,
    ) -> None:
        self.cfg = config
        self.dir = directory
        self.stop = stop
        self.log = log
        self.report = report
        self.status = status  # writes status.json
        self.checkpoints = Checkpoints(directory / "checkpoint")
        # here, so that a suite that there is not is refused before anything is trained or paid
        self.suites = {name: suite_cases(config, name) for name in config.eval.suites}

    def env(self, role: str) -> gym.Env:
        return make_env(self.cfg, role)

    @property
    def action_space(self) -> gym.Space:
        return self._eval_env.action_space

    def agent(self) -> Agent:
        return make_agent(self.cfg, self._eval_env, env_steps=self.cfg.budget.env_steps)

    def rehearse(self) -> None:
        """Raises ConfigError where training the agent here would."""
        agent = self.agent()
        agent.explorer()
        check_replay_buffer(self.cfg, agent)

    @cached_property
    def llm(self) -> LLM:
        waiting = getattr(self.report, "waiting", None)
        return LLM(self.cfg.llm, Transcript(self.dir / "llm.jsonl"), self.stop, self.log.timing, waiting)

    def train(self, agent: Agent, explorer: Explorer) -> dict[str, Any]:
        """Trains online to the end of the budget, from the newest checkpoint if there is one. Returns what came out."""
        cfg = self.cfg
        check_replay_buffer(cfg, agent)
        training = OnlineTraining(
            agent,
            explorer,
            [self.env("train") for _ in range(cfg.agent.n_envs)],
            seed=cfg.seed,
            schedule=Schedule(cfg.budget.env_steps, cfg.eval.every, cfg.log.every, cfg.compute.checkpoint_every_s),
            evaluate=lambda clock: self.evaluate(agent, clock, end=clock.env_steps >= cfg.budget.env_steps),
            log=self.log,
            checkpoints=self.checkpoints,
            stop=self.stop,
            report=self.report,
        )
        try:
            clock = training.run()
        finally:
            self._close_pool()
        self._keep(agent)
        transforms = [slot.env.facts() for slot in training.slots if hasattr(slot.env, "facts")]
        return asdict(clock) | ({"transform": mean_facts(transforms)} if transforms else {})

    def train_offline(self, agent: Agent, source: Source) -> dict[str, Any]:
        """Trains on what `source` draws, to the end of the budget, from the newest checkpoint if there is one. Returns
        what came out. Raises ConfigError where the budget has no updates."""
        cfg = self.cfg
        if cfg.budget.updates is None:
            raise ConfigError(f"method={cfg.choices['method']} trains on a dataset: say for how many budget.updates")
        schedule = offline.Schedule(
            cfg.budget.updates, cfg.eval.every, cfg.log.every, cfg.compute.checkpoint_every_s
        )  # fmt: skip
        training = offline.OfflineTraining(
            agent,
            source,
            seed=cfg.seed,
            schedule=schedule,
            evaluate=lambda clock: self.evaluate(agent, clock, end=clock.updates >= schedule.updates),
            log=self.log,
            checkpoints=self.checkpoints,
            stop=self.stop,
            report=self.report,
        )
        try:
            clock = training.run()
        finally:
            self._close_pool()
        self._keep(agent)
        return asdict(clock)

    def _close_pool(self) -> None:
        if "_eval_pool" in self.__dict__:
            self._eval_pool.close()

    def _keep(self, agent: Agent) -> None:
        packed = io.BytesIO()  # torch itself would turn a full disk into a RuntimeError
        torch.save(agent.state_dict(), packed)
        write_bytes(self.dir / "agent.pt", packed.getvalue())

    # --- what a run builds on ---------------------------------------------------------------------------------------

    def artifact(self, config: Config, product: str, noted: str = "artifact.json") -> Path:
        """The directory of the finished run of `config`, which makes what this run builds on: runs it, or waits for
        whoever does. The content of its file `product` is noted in this run's file `noted`, and may not be another one
        later; where an LLM made it, its transcript is this run's too.

        Raises ConfigError where it is asked for wrongly or its product has changed, Paused where its LLM cannot be
        reached, ChildEnded where it failed or was killed.
        """
        reads = method_of(config.choices["method"]).reads(config.method)
        directory = run_path(config, identity(config, reads))
        above = topmost_missing(directory)
        prepare(directory, config)
        self.status("WAITING", waiting_for=str(directory))
        (outcome,) = run_all([directory], 1, self.stop)
        if outcome.status == PAUSED or outcome.code == CODES[PAUSED]:
            raise Paused(f"{directory}: {outcome.reason}")
        if outcome.status != DONE:
            if outcome.code != BAD_INPUT:
                raise ChildEnded(f"What this run builds on failed: {directory}: {outcome.reason}", outcome.code)
            if above is not None and not (directory / "llm.jsonl").exists():  # nothing was asked or made
                shutil.rmtree(directory)
                remove_empty(above)
            raise ConfigError(f"What this run builds on cannot be made: {outcome.reason}")
        self.status("RUNNING")
        self.note(directory / product, noted)
        asked, own = directory / "llm.jsonl", self.dir / "llm.jsonl"
        if asked.exists() and not own.exists():  # a run shows what made it, and can be replayed from
            write_bytes(own, asked.read_bytes())
        return directory

    def policy(self, agent: Agent, env: gym.Env) -> Act:
        """How an agent acts in evaluations on `env`."""
        return evaluated(agent, self.cfg, env)

    def trained(self, directory: Path, env: gym.Env) -> tuple[Agent, Clock]:
        """The agent that the run in `directory` has trained, for the spaces of `env`, and how long it was trained. Its
        content is noted. Raises ConfigError where there is none, or the spaces are others."""
        if not (directory / "config.json").exists():
            raise ConfigError(f"method.run: {directory} is no run directory (it has no config.json)")
        source, counters, state = learned(directory)
        if source != "agent.pt":
            raise ConfigError(f"method.run: {directory} is not finished; the same command as before goes on with it")
        config = as_trained(from_node(composed(directory)), directory)
        try:
            agent = make_agent(replace(config, compute=self.cfg.compute), env, env_steps=config.budget.env_steps)
            agent.load_state_dict(state)
        except (ConfigError, RuntimeError) as error:
            raise ConfigError(f"method.run: {directory} was trained for another environment: {error}") from error
        self.note(directory / source, "artifact.json")
        return agent, Clock(**counters)

    def note(self, file: Path, name: str) -> None:
        now = {"path": str(file), "sha256": sha256(file.read_bytes()).hexdigest()}
        noted = self.dir / name
        if noted.exists() and read_json(noted)["sha256"] != now["sha256"]:
            raise ConfigError(
                f"{file} is not what this run began with ({noted} holds its hash). Restore it, or start anew with "
                "rerun=true"
            )
        write_json(noted, now)

    def use_transform(self, transform: Transform, program: str) -> None:
        """From now on the environments carry `program`, which is kept in the run for whoever evaluates it later."""
        write_text(self.dir / PROGRAM, program)
        write_json(self.dir / TRANSFORM, asdict(transform) | {"artifact": None})
        self.cfg = as_trained(self.cfg, self.dir)
        if (rehearsed := self.__dict__.pop("_eval_env", None)) is not None:  # it does not have the program
            rehearsed.close()

    @cached_property
    def _eval_env(self) -> gym.Env:
        return self.env("eval")

    @cached_property
    def _eval_pool(self) -> EvaluationPool:
        return EvaluationPool(partial(evaluation_worker, self.cfg), self.cfg.eval.workers)

    def evaluate(self, agent: Agent, clock: Clock, *, end: bool) -> None:
        """Writes a row of the agent's returns, and before training one of the random policy's on the same cases; where
        it is the last evaluation (`end`), or all want them, also a row for each of eval.suites."""
        cfg, env = self.cfg.eval, self._eval_env
        start = time.perf_counter()
        suite = cases(cfg.seed, "eval", cfg.episodes)
        scores = self._play(agent, suite)
        rows = [{"policy": "greedy", **scores.row()}]
        if clock.env_steps == clock.updates == 0:
            random = evaluate(uniform_policy(env.action_space), env, suite, cfg.max_steps, self.stop)
            rows.insert(0, {"policy": "random", **random.row()})
        if end or cfg.suites_at == "every":
            for name, suite in self.suites.items():
                rows.append({"policy": f"greedy on {name}", **self._play(agent, suite).row()})
        for row in rows:
            self.log.evaluation({"env_steps": clock.env_steps, "updates": clock.updates, **row})
        took = {"seconds": time.perf_counter() - start, "eval_env_steps": sum(sum(row["lengths"]) for row in rows)}
        self.log.timing({"event": "evaluation", "env_steps": clock.env_steps, **took})
        self.report(clock, {"eval": float(np.mean(scores.returns))})

    def _play(self, agent: Agent, suite: list[Case]) -> Scores:
        cfg = self.cfg
        if cfg.eval.epsilon == 0 and (together := module_of("env", cfg.env.suite).__dict__.get("SideBySide")):
            episodes, context = together(cfg.env, cfg.eval.workers), getattr(cfg.agent, "context", None)
            remember = None if context is None else partial(History, context=context)
            return evaluate_together(greedy(agent), episodes, suite, cfg.eval.max_steps, self.stop, remember)
        if self.cfg.eval.workers > 1:
            return self._eval_pool.evaluate(agent, suite, self.stop)
        env = self._eval_env
        return evaluate(evaluated(agent, self.cfg, env), env, suite, self.cfg.eval.max_steps, self.stop)

"""What a method has in hand while it carries out a run: its training and evaluation, and what it builds on."""

import io
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import asdict, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch

from llmrl.build import check_replay_buffer, evaluated, evaluation_set, make_agent, make_env, mean_facts, training_env
from llmrl.checks import ConfigError
from llmrl.config import Config, from_node, wrapped
from llmrl.contracts.agent import Agent
from llmrl.contracts.env import Role, Wrapper
from llmrl.contracts.explorer import Clock, Explorer
from llmrl.evaluation import Evaluation, Report
from llmrl.llm.client import LLM
from llmrl.llm.transcript import Transcript
from llmrl.loops.env_process import env_process
from llmrl.loops.lockstep import Update
from llmrl.loops.offline import OfflineTraining, Source
from llmrl.loops.online import OnlineTraining
from llmrl.loops.training import Schedule, Services, Training
from llmrl.runs import artifacts
from llmrl.runs.checkpoint import Checkpoints
from llmrl.runs.evaluate import Act
from llmrl.runs.files import write_bytes
from llmrl.runs.kept_wrapper import keep
from llmrl.runs.learned import composed, learned
from llmrl.runs.log import RunLog
from llmrl.runs.stop import Stop


class RunContext:
    """One run. A method that finds a wrapper by itself hands its Config to `env`, `agent`, `train` and `evaluate`;
    without one they take the run's own."""

    def __init__(
        self,
        config: Config,
        directory: Path,
        stop: Stop,
        log: RunLog,
        report: Report,
        status: Callable[..., None] = lambda status, **facts: None,
        together: Callable[[Agent], Update] | None = None,
    ) -> None:
        """`together`: the update of an agent that is made together with other runs', see loops/lockstep.py."""
        self.cfg = config
        self.dir = directory
        self.stop = stop
        self.log = log
        self.report = report
        self.status = status  # writes status.json
        self.together = together
        self.checkpoints = Checkpoints(directory / "checkpoint")
        # here, so that a suite that there is not is refused before anything is trained or paid
        self.evaluation_sets = {name: evaluation_set(config, name) for name in config.eval.sets}
        self._evaluations: dict[Any, Evaluation] = {}  # by wrapper: making an environment takes time

    @cached_property
    def llm(self) -> LLM:
        waiting = getattr(self.report, "waiting", None)
        return LLM(self.cfg.llm, Transcript(self.dir / "llm.jsonl"), self.stop, self.log.timing, waiting)

    def close(self) -> None:
        """The run has ended, however it did."""
        if "llm" in vars(self):
            self.llm.end()

    def env(self, role: Role, wrapper: Any = None) -> gym.Env:
        return make_env(self._wrapped(wrapper), role)

    def agent(self, wrapper: Any = None) -> Agent:
        """A new agent for the run's environment."""
        return make_agent(self.cfg, self._evaluation(wrapper).env, env_steps=self.cfg.budget.env_steps)

    def policy(self, agent: Agent, env: gym.Env) -> Act:
        """How an agent acts in evaluations on `env`."""
        return evaluated(agent, self.cfg, env)

    def rehearse(self) -> None:
        """Raises ConfigError where training the agent here would."""
        agent = self.agent()
        agent.explorer()
        if self.together is not None:
            self.together(agent)
        check_replay_buffer(self.cfg, agent)

    def _wrapped(self, wrapper: Any) -> Config:
        return self.cfg if wrapper is None else wrapped(self.cfg, wrapper)

    def _evaluation(self, wrapper: Any) -> Evaluation:
        if wrapper not in self._evaluations:
            config = self._wrapped(wrapper)
            self._evaluations[wrapper] = Evaluation(config, self.evaluation_sets, self.stop, self.log, self.report)
        return self._evaluations[wrapper]

    # --- training and evaluation --------------------------------------------------------------------------------------

    def evaluate(self, agent: Agent, clock: Clock, wrapper: Any = None, *, end: bool) -> None:
        """Writes the rows of one evaluation; `end`: it is the run's last one."""
        self._evaluation(wrapper).evaluate(agent, clock, end=end)

    def train(self, agent: Agent, explorer: Explorer, wrapper: Any = None) -> dict[str, Any]:
        """Trains online to the end of the budget, from the newest checkpoint if there is one. Returns what came out.
        Raises ConfigError where the agent is not for the run's environment in `wrapper`."""
        cfg, evaluation = self._wrapped(wrapper), self._evaluation(wrapper)
        check_replay_buffer(cfg, agent)
        if agent.observation_space != (space := evaluation.env.observation_space):
            raise ConfigError(
                f"method={cfg.choices['method']}: its agent is for observations {agent.observation_space}, but the "
                f"environment gives {space}: `agent` and `train` need the same wrapper"
            )
        keep(self.dir, cfg)
        update = self.together(agent) if self.together else agent.update
        services = self._services(agent, evaluation)
        with ExitStack() as until_end:
            make = (
                partial(env_process, partial(training_env, cfg))
                if cfg.compute.env_processes
                else partial(self.env, "train", wrapper)
            )
            envs = [until_end.enter_context(closing(make())) for _ in range(getattr(cfg.agent, "n_envs", 1))]
            training = OnlineTraining(agent, explorer, envs, seed=cfg.seed, update=update, **services)
            clock = self._run(training, agent, evaluation)
            facts = [slot.env.facts() for slot in training.slots if isinstance(slot.env, Wrapper)]
        return asdict(clock) | ({"wrapper": mean_facts(facts)} if facts else {})

    def train_offline(self, agent: Agent, source: Source) -> dict[str, Any]:
        """Trains on what `source` draws, to the end of the budget, from the newest checkpoint if there is one. Returns
        what came out. Raises ConfigError where the budget has no updates."""
        cfg, evaluation = self.cfg, self._evaluation(None)
        if cfg.budget.updates is None:
            raise ConfigError(f"method={cfg.choices['method']} trains on a dataset: say for how many budget.updates")
        training = OfflineTraining(agent, source, seed=cfg.seed, **self._services(agent, evaluation))
        return asdict(self._run(training, agent, evaluation))

    def _services(self, agent: Agent, evaluation: Evaluation) -> Services:
        cfg, budget = self.cfg, self.cfg.budget
        return {
            "schedule": Schedule(budget.length, cfg.eval.every, cfg.log.every, cfg.compute.checkpoint_every_s),
            "evaluate": lambda clock: evaluation.evaluate(
                agent, clock, end=getattr(clock, budget.unit) >= budget.length
            ),
            "log": self.log,
            "checkpoints": self.checkpoints,
            "stop": self.stop,
            "report": self.report,
        }

    def _run(self, training: Training, agent: Agent, evaluation: Evaluation) -> Clock:
        """Trains, and keeps the agent."""
        try:
            clock = training.run()
        finally:
            evaluation.close_pool()
        packed = io.BytesIO()  # torch itself would turn a full disk into a RuntimeError
        torch.save(agent.state_dict(), packed)
        write_bytes(self.dir / "agent.pt", packed.getvalue())
        return clock

    # --- what the run builds on ---------------------------------------------------------------------------------------

    def artifact(self, config: Config, product: str, noted: str = "artifact.json") -> Path:
        """The directory of the finished run of `config`; see runs/artifacts.py."""
        return artifacts.artifact(config, product, self.dir / noted, self.stop, self.status)

    def note(self, file: Path, noted: str = "artifact.json") -> None:
        """Raises ConfigError where `file` is not what this run began with."""
        artifacts.note(file, self.dir / noted)

    def trained(self, directory: Path, env: gym.Env) -> tuple[Agent, Clock]:
        """The agent that the run in `directory` has trained, for the spaces of `env`, and how long it was trained. Its
        content is noted. Raises ConfigError where there is none, or the spaces are others."""
        if not (directory / "config.json").exists():
            raise ConfigError(f"method.run: {directory} is not a run directory (it has no config.json)")
        source, counters, state = learned(directory)
        if source != "agent.pt":
            raise ConfigError(f"method.run: {directory} is not finished; the same command as before goes on with it")
        config = from_node(composed(directory))
        try:
            agent = make_agent(replace(config, compute=self.cfg.compute), env, env_steps=config.budget.env_steps)
            agent.load_state_dict(state)
        except (ConfigError, RuntimeError) as error:
            raise ConfigError(f"method.run: {directory} was trained for another environment: {error}") from error
        self.note(directory / source)
        return agent, Clock(**counters)

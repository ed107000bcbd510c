"""Eureka's search (Ma et al. 2024, arXiv 2310.12931; the authors' eureka.py): which reward function trains an agent
that does the task best?

An LLM writes K reward functions from the same messages; an agent is trained with each; how the components of the best
one went over its training goes back to the LLM, in place of what was told of before; N times, from scratch R times. The
run's directory is the artifact: reward.py is the best program of all, and candidates/ holds a run for each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import gymnasium as gym
import numpy as np

from llmrl.checks import ConfigError, Count, NonNegativeInt
from llmrl.contracts.method import Method, Reads
from llmrl.llm.client import Reply
from llmrl.llm.program_text import Rejected
from llmrl.llm.tries import REPEATED, Tries
from llmrl.methods.eureka import prompts
from llmrl.methods.eureka import wrapper as eureka_wrapper
from llmrl.methods.eureka.checker import Checker
from llmrl.methods.eureka.measure import UNITS, fitness
from llmrl.methods.eureka.wrapper import PROGRAM
from llmrl.methods.search.candidates import failure, place, program_file, say, totals, train
from llmrl.methods.search.steps import real_steps
from llmrl.methods.search.task import check_sheet, check_task
from llmrl.registered import check_known_to_children
from llmrl.runs import seeding
from llmrl.runs.files import read_jsonl, write_text

if TYPE_CHECKING:
    from llmrl.config import Config as Run
    from llmrl.context import RunContext

SAMPLE = "eureka.sample"  # what the LLM is asked for
WINDOWS = 100  # of a candidate's training, whose means are logged, for reflection and correlation


@dataclass(frozen=True)
class Config:
    """conf/method/eureka/search.yaml"""

    seed: NonNegativeInt
    eval_seed: NonNegativeInt
    k: Count
    iterations: Count
    restarts: Count
    context: Literal["sheet", "code"]
    states: Count


@dataclass
class Candidate:
    """A program that passed the checks, and what training with it came to."""

    index: str  # "restart/iteration/sample"
    reply: str
    code: str
    score: float = -np.inf
    failed: str = ""  # why there is no score
    correlation: float | None = None  # of its reward with the human one, over its training
    components: list[str] = field(default_factory=list)


class EurekaSearch(Method[Config]):
    suites = ("mujoco", "robotics")
    artifact = "eureka"  # its directory is outputs/artifacts/eureka/<id>

    @classmethod
    def reads(cls, config: Config) -> tuple[Reads, ...]:
        return "llm", "env.task", "env.task.observation"

    @classmethod
    def work(cls, run: "Run") -> tuple[int, str]:
        """What a whole search trains."""
        return run.method.restarts * run.method.iterations * run.method.k * run.budget.env_steps, "env_steps"

    @classmethod
    def small(cls, config: Config, env_steps: int) -> Config:
        return replace(config, k=1, iterations=1, restarts=1, states=50)

    def run(self, ctx: "RunContext") -> dict[str, Any]:
        own, search = ctx.cfg.method, _Search(ctx)
        for restart in range(own.restarts):
            messages = search.first
            for iteration in range(own.iterations):
                candidates = search.sample(restart, iteration, messages)
                search.train(candidates)
                if (best := best_of(candidates)) is not None:  # else the same messages are answered once more
                    messages = prompts.next_round(search.first, best.reply, search.measured(best), search.measure)
        return search.choose()


METHOD = EurekaSearch


class _Search:
    def __init__(self, ctx: "RunContext") -> None:
        self.ctx, self.config = ctx, ctx.cfg.method
        check_task(ctx.cfg, "eureka")
        check_known_to_children(ctx.cfg.choices, "a search")
        ctx.rehearse()  # an agent that cannot act or learn here says so before the LLM is asked
        wrapped = ctx.env("eval", eureka_wrapper.Config(program=None, reward="human"))
        assert isinstance(wrapped, eureka_wrapper.EurekaWrapper)
        self.measure = wrapped.measure
        steps = real_steps(wrapped, self.config.states, self.config.seed)
        try:
            context = context_of(ctx.cfg, wrapped)
        finally:
            wrapped.close()
        check_sheet(ctx.cfg.env.task, steps.states.shape[1])
        self.first = prompts.first(ctx.cfg.env.task, context)
        self.candidates: list[Candidate] = []
        self.checker = Checker(steps)
        self.past = Tries()

    # --- K programs -------------------------------------------------------------------------------------------------

    def sample(self, restart: int, iteration: int, messages: Sequence[prompts.Message]) -> list[Candidate]:
        """Those of K answers that can be trained with; nothing is asked for again."""
        found = []
        for number in range(self.config.k):
            index = f"{restart}/{iteration}/{number}"
            reply = self.ctx.llm.ask(list(messages), purpose=SAMPLE, index=index)
            fault = self.past.fault(list(messages), reply)
            events = self.ctx.llm.transcript.events
            if (SAMPLE, index, "accepted") not in events and (SAMPLE, index, "rejected") not in events:
                self._check(reply, index, fault)
            if (facts := events.get((SAMPLE, index, "accepted"))) is not None:
                code = self.checker.accept(reply)
                found.append(Candidate(index, reply.text, code, components=facts["components"]))
            elif events[SAMPLE, index, "rejected"]["reason"] == REPEATED:
                break  # every further answer would be the same
        self.candidates += found
        return found

    def _check(self, reply: Reply, index: str, fault: str) -> None:
        """Records whether the program may be trained. `fault`: why the reply is not to be read."""
        try:
            facts = self.checker.check(reply, fault)
        except Rejected as error:
            self.ctx.llm.event(SAMPLE, index, "rejected", reason=error.name, detail=error.detail[:500])
            say(self.ctx.cfg, f"{index}: rejected, {error.name}: {error.detail[:100]}")
        else:
            self.ctx.llm.event(SAMPLE, index, "accepted", **asdict(facts))

    # --- their trainings --------------------------------------------------------------------------------------------

    def train(self, candidates: list[Candidate]) -> None:
        """Each candidate is a run of its own, side by side; one that fails counts below all others."""
        facts = train(self.ctx, SAMPLE, {c.index: [self._place(c)] for c in candidates}, self._facts)
        for c in candidates:
            c.failed, c.correlation = facts[c.index]["failed"], facts[c.index]["correlation"]
            c.score = -np.inf if c.failed else facts[c.index]["score"]
            came_to = c.failed or f"{self.measure} {c.score:,.2f}"
            say(self.ctx.cfg, f"{c.index}: {came_to}, of {', '.join(c.components)}")

    def _place(self, candidate: Candidate) -> Path:
        """The directory of a candidate's training, with what it is to run."""
        name = candidate.index.replace("/", "-")
        program = program_file(self.ctx.dir, name, candidate.code)
        wrapper = eureka_wrapper.Config(program=str(program), reward="program")
        cfg = self.ctx.cfg  # the number of rows is not the user's: the LLM reads them
        cfg = replace(cfg, log=replace(cfg.log, every=max(1, cfg.budget.env_steps // WINDOWS)))
        return place(cfg, self.ctx.dir, name, wrapper, seeding.integer(self.config.seed, "candidate", name))

    def _facts(self, index: str, places: Sequence[Path]) -> dict[str, Any]:
        """What a candidate's training came to. Its score is its best evaluation."""
        if failed := failure(places):
            return {"failed": failed, "score": None, "correlation": None}
        windows = windows_of(places[0])
        r = pearson([row["reward_learned"] for row in windows], [row["reward_human"] for row in windows])
        return {"failed": "", "score": max(fitness(places[0])), "correlation": r}

    def measured(self, candidate: Candidate) -> Mapping[str, Sequence[float]]:
        """What the LLM is told of the best candidate's training, in the order of time."""
        directory = self._place(candidate)
        windows = windows_of(directory)
        episodes = [row for row in read_jsonl(directory / "metrics.jsonl") if row.get("kind") == "episode"]
        values = {name: [row[f"component/{name}"] for row in windows] for name in candidate.components}
        return values | {
            UNITS[self.measure]: fitness(directory),
            "episode length": [float(row["length"]) for row in episodes],
        }

    # --- choice -----------------------------------------------------------------------------------------------------

    def choose(self) -> dict[str, Any]:
        """The best program of all iterations and restarts becomes reward.py."""
        best = best_of(self.candidates)
        if best is None:
            raise RuntimeError(
                f"No reward of {len(self.candidates)} could be trained with to the end, so there is nothing to choose. "
                f"{self.ctx.dir / 'llm.jsonl'} says why each was rejected or failed."
            )
        write_text(self.ctx.dir / PROGRAM, best.code)
        tried = [{"index": c.index, "score": None if c.failed else c.score, "failed": c.failed,
                  "components": c.components, "correlation": c.correlation} for c in self.candidates]  # fmt: skip
        rejected = [e["reason"] for (purpose, _, kind), e in self.ctx.llm.transcript.events.items()
                    if (purpose, kind) == (SAMPLE, "rejected")]  # fmt: skip
        counts = {reason: rejected.count(reason) for reason in sorted(set(rejected))}
        return totals([self._place(c) for c in self.candidates]) | {
            "eureka": {"chosen": best.index, "score": best.score, "measure": self.measure, "candidates": tried,
                       "rejected": counts},
        }  # fmt: skip


def context_of(search: "Run", env: gym.Env) -> str:
    """What a prompt tells of the state. Raises ConfigError."""
    try:
        return prompts.context_of(search.method.context, search.env.task, env)
    except ValueError as error:
        raise ConfigError(f"method.search.context: {error}") from None


def best_of(candidates: Sequence[Candidate]) -> Candidate | None:
    """The first of those with the highest score; None where none could be trained with."""
    return max((c for c in candidates if not c.failed), key=lambda c: c.score, default=None)


def windows_of(directory: Path) -> list[dict[str, float]]:
    """The rows of a training that hold the means of its rewards."""
    return [row for row in read_jsonl(directory / "metrics.jsonl") if "reward_learned" in row]


def pearson(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Pearson's correlation; None where there are fewer than three pairs, or one side never varies."""
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float(np.corrcoef(x, y)[0, 1])

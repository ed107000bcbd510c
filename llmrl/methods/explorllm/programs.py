"""ExploRLLM's programs (Ma et al. 2025, arXiv 2403.09583; docs/papers/explorllm.md): asked for once, before any
training, and run from then on without further calls.

An LLM writes a planner (which primitive, which object), n candidates of an affordance map (where a pick holds) and a
place map. Each is checked; the candidates are scored by the probability that a pick drawn from their map seals. The
run's directory is the artifact: programs.json holds all of them, and programs/ the same as files to read.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from llmrl.checks import Count, NonNegativeInt
from llmrl.config import Config as Run
from llmrl.config import without_training
from llmrl.contracts.method import Method, Reads
from llmrl.llm.sandbox import SandboxFailure
from llmrl.llm.tries import REPEATED, Tries, why
from llmrl.methods.explorllm.examples import score, sealing, seen_tables
from llmrl.methods.explorllm.program import PURPOSES, Programs, Rejected, Seen, checked, extract
from llmrl.methods.explorllm.prompts import Asker, Message
from llmrl.runs.files import read_json, write_json, write_text

if TYPE_CHECKING:
    from llmrl.context import RunContext

PRODUCT = "programs.json"


@dataclass(frozen=True)
class Config:
    """conf/method/explorllm/programs.yaml"""

    seed: NonNegativeInt
    n: Count
    max_tries: Count
    images: bool
    tables: Count
    crops: Count


class ExploRLLMPrograms(Method[Config]):
    suites = ("pick_place",)
    artifact = "explorllm"  # its directory is outputs/artifacts/explorllm/<id>

    @classmethod
    def reads(cls, config: Config) -> tuple[Reads, ...]:
        return ("llm",)

    @classmethod
    def work(cls, run: Run) -> tuple[int, str]:
        """Nothing is trained."""
        return run.method.n, "candidate programs"

    @classmethod
    def small(cls, config: Config, env_steps: int) -> Config:
        """The same with the smallest numbers that touch everything."""
        return replace(config, n=2, max_tries=1, tables=2, crops=3)

    @classmethod
    def shared(cls, run: Run) -> Run:
        return run_of(run, run.method)

    def run(self, ctx: "RunContext") -> dict[str, Any]:
        env, progress = canonical(ctx.cfg.env), ctx.cfg.log.progress
        if not (ctx.dir / PRODUCT).exists():
            (ctx.dir / "programs").mkdir(exist_ok=True)
            search = Search(ctx.cfg.method, env, ctx.llm, progress=show if progress else lambda text: None)
            found = search.find()
            for name, code in search.files().items():
                write_text(ctx.dir / "programs" / f"{name}.py", code)
            write_json(ctx.dir / PRODUCT, found)
        found = read_programs(ctx.dir)
        summary = {"scores": found["scores"], "rejected": found["rejected"]}
        return {"env_steps": 0, "updates": 0, "episodes": 0, "explorllm": summary}


METHOD = ExploRLLMPrograms


def show(text: str) -> None:
    print(f"  programs {text}", file=sys.stderr, flush=True)


class Repeated(Exception):
    """The model repeated an answer to the same prompt."""


class Search:
    """Asks for all programs, checks and scores them. `llm` is the run's; the verdict on each answer is an event in its
    transcript, which a resumed search reads again."""

    def __init__(
        self, config: Config, env: Any, llm: Any, *, progress: Callable[[str], None] = lambda text: None
    ) -> None:
        self.config, self.env, self.llm, self.progress = config, env, llm, progress
        self.asker = Asker(env, images=config.images, seed=config.seed)
        self.seen: Seen = seen_tables(env, config.tables, config.seed)
        self.found: dict[str, Any] = {}

    def find(self) -> dict[str, Any]:
        """What programs.json holds: sources (None: rejected), scores of the candidates, rejections by program."""
        asker, n, tries = self.asker, self.config.n, self.config.max_tries
        self.found = {
            "planner": self._first("planner", asker.planner(), tries),
            "affordance": self._candidates(asker.affordance(), n),
            "place_map": self._first("place_map", asker.place_map(), tries),
        }
        crops, holds = sealing(self.env, self.config.crops, self.config.seed)
        scores = []
        for i, code in enumerate(self.found["affordance"]):
            scores.append(None if code is None else self._score(str(i), code, crops, holds))
        rejected = {f"{event['purpose']} {event['index']}": event["reason"]
                    for (_, _, kind), event in self.llm.transcript.events.items() if kind == "rejected"}  # fmt: skip
        return self.found | {"scores": scores, "rejected": rejected}

    def files(self) -> dict[str, str]:
        """The accepted sources by name."""
        candidates = {f"affordance_{i}": code for i, code in enumerate(self.found["affordance"])}
        named = {"planner": self.found["planner"], **candidates, "place_map": self.found["place_map"]}
        return {name: code for name, code in named.items() if code is not None}

    def _first(self, function: str, messages: list[Message], tries: int) -> str | None:
        """The first of some answers that passes the checks; None where none does, and the fallback acts."""
        past = Tries()
        try:
            for index in range(tries):
                if (code := self._one(function, messages, str(index), past)) is not None:
                    return code
        except Repeated:
            pass
        return None

    def _candidates(self, messages: list[Message], n: int) -> list[str | None]:
        """n candidates, None for those that were rejected. A model that repeats itself is not asked for more."""
        past = Tries()
        found: list[str | None] = []
        try:
            for index in range(n):
                found.append(self._one("affordance", messages, str(index), past))
        except Repeated:
            pass
        return found + [None] * (n - len(found))

    def _one(self, function: str, messages: list[Message], index: str, past: Tries) -> str | None:
        """The program of one answer, or None. The verdict is recorded, and holds after an interruption. Raises
        Repeated where the answer was there before."""
        purpose = PURPOSES[function]
        reply = self.llm.ask(messages, purpose=purpose, index=index)
        events = self.llm.transcript.events
        fault = past.fault(messages, reply)
        if (rejected := events.get((purpose, index, "rejected"))) is not None:
            if rejected["reason"] == REPEATED:
                raise Repeated
            return None
        try:
            if fault and (purpose, index, "accepted") not in events:
                raise Rejected(fault, why(fault, reply))
            known = (purpose, index, "accepted") in events
            code = extract(reply.text, function) if known else checked(reply.text, function, self.seen)
        except Rejected as error:
            self.llm.event(purpose, index, "rejected", reason=error.name, detail=error.detail[:300])
            self.progress(f"{function} {index}: rejected, {error.name}: {error.detail[:100]}")
            if error.name == REPEATED:
                raise Repeated from None
            return None
        self.llm.event(purpose, index, "accepted")
        return code

    def _score(self, index: str, code: str, crops: Any, holds: Any) -> dict[str, Any]:
        try:
            with Programs(None, code, None) as programs:
                facts = score(programs, crops, holds)
        except SandboxFailure as failure:
            if failure.name == "not_started":
                raise
            facts = {"stochastic": 0.0, "argmax": 0.0, "failures": {failure.name: len(crops)}}
        self.llm.event(PURPOSES["affordance"], index, "scored", **facts)
        self.progress(f"affordance {index}: a drawn pick holds with probability {facts['stochastic']:.2f}")
        return facts


# --- for those who build on it ----------------------------------------------------------------------------------------


def canonical(env: Any) -> Any:
    """The environment's Config without what makes no difference to programs, so that all controls share them."""
    return replace(
        env, mode="analytic", actions="residual", observation="crops", detector="truth", timeout="terminal",
        neglect_px=None, max_primitives=11, phase="soft", residual_px=14.0, drop_scatter_mm=0.0,
    )  # fmt: skip


def run_of(config: Run, programs: Config) -> Run:
    """The run that asks for `programs`: the same for every agent, evaluation, budget and seed."""
    return without_training(config, "explorllm/programs", programs, canonical(config.env), programs.seed)


def read_programs(directory: Any) -> dict[str, Any]:
    """What `Search.find` found, from an artifact's directory."""
    return read_json(directory / PRODUCT)


Affordance = Literal["best", "worst"] | NonNegativeInt


def check_affordance(affordance: Affordance, programs: Config) -> None:
    """Raises ValueError, for the dataclass that holds both, for the number of a candidate beyond programs.n."""
    if isinstance(affordance, int) and affordance >= programs.n:
        raise ValueError(
            f"affordance: unknown candidate {affordance}; programs.n={programs.n} gives 0 to {programs.n - 1}"
        )


def choose(found: dict[str, Any], affordance: Affordance, sampling: Literal["stochastic", "argmax"]) -> int | None:
    """The number of a candidate: the best or the worst by its score for this sampling, or the one that is named. None
    where none passed the checks, so that the fallback acts."""
    if isinstance(affordance, int):
        return affordance
    scores = {i: facts[sampling] for i, facts in enumerate(found["scores"]) if facts is not None}
    best = max if affordance == "best" else min
    return best(scores, key=lambda i: scores[i]) if scores else None


def chosen(found: dict[str, Any], number: int | None) -> Programs:
    """The three programs to act with."""
    affordance = None if number is None else found["affordance"][number]
    return Programs(found["planner"], affordance, found["place_map"])

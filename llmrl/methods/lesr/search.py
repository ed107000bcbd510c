"""LESR's search (Wang et al. 2024, arXiv 2407.13237; docs/papers/lesr.md): which state features and which
intrinsic reward help?

An LLM writes K programs F, G; each is trained for N_small env_steps; its score and the Lipschitz constant of each
dimension go back to the LLM; I times. The run's directory is the artifact: transform.py is the best program, and
candidates/ holds a run for each. `run` is re-entrant: answers come from the transcript, trainings from their
directories, and rejections and results are recorded events.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from llmrl.checks import Count, NonNegative, NonNegativeInt, Positive
from llmrl.contracts.method import Method, Reads
from llmrl.llm.client import Reply
from llmrl.llm.program_text import Rejected
from llmrl.llm.tries import REPEATED, Tries, turns, why
from llmrl.methods.lesr import prompts
from llmrl.methods.lesr import wrapper as lesr_wrapper
from llmrl.methods.lesr.checker import Checker
from llmrl.methods.lesr.lipschitz import spectral
from llmrl.methods.lesr.program import Rejection
from llmrl.methods.lesr.wrapper import PROGRAM
from llmrl.methods.search.candidates import failure, place, program_file, say, totals, train
from llmrl.methods.search.steps import real_steps
from llmrl.methods.search.task import check_sheet, check_task
from llmrl.registered import check_known_to_children
from llmrl.runs import seeding
from llmrl.runs.children import result_of
from llmrl.runs.files import read_jsonl, write_text

if TYPE_CHECKING:
    from llmrl.config import Config as Run
    from llmrl.context import RunContext

SAMPLE, FEEDBACK = "lesr.sample", "lesr.feedback"  # what the LLM is asked for
FEEDBACK_TRIES = 3  # of an analysis
IMPURE = "failed: SandboxFailure: impure"  # of a candidate whose program was found impure while it was trained


@dataclass(frozen=True)
class Config:
    """conf/method/lesr/search.yaml"""

    seed: NonNegativeInt
    eval_seed: NonNegativeInt
    k: Count
    iterations: Count
    seeds: Count
    writes: Literal["features_and_reward", "reward"]
    tell: Literal["authors", "reward"]
    w: NonNegative
    state: Literal["augmented", "source"]
    reward: Literal["add", "replace"]
    form: Literal["state", "next_state", "potential"]
    lipschitz: Literal["episode", "cumulative", "discounted_return", "spectral_norm"]
    scaled: bool
    feedback: bool
    tell_lipschitz: bool
    chain_of_thought: bool
    tell_rejections: bool
    score: Literal["return", "success_authors", "success_official"]
    score_window: Count = field(metadata={"scales": True})
    score_evaluations: Count
    max_tries: Count
    reject: tuple[Rejection, ...]
    max_features: Count | None
    max_reward: Positive
    max_real_reward: Positive | None
    max_reward_share: Positive | None = field(metadata={"neutral": None})
    states: Count


@dataclass
class Candidate:
    """A program that passed the checks, and the results of training with it."""

    index: str  # "iteration/sample/attempt"
    reply: str
    code: str
    score: float = -np.inf
    failed: str = ""  # why there is no score
    features: int = 0  # added dimensions
    ignored: list[int] = field(default_factory=list)  # those that the intrinsic reward does not depend on
    lipschitz: list[float] = field(default_factory=list)

    @property
    def name(self) -> str:
        return "-".join(self.index.split("/")[:2])


@dataclass
class _Sample:
    """One of the K programs of an iteration, while it is asked for."""

    candidate: Candidate | None = None
    calls: int = 0
    rejection: tuple[str, str, str] | None = None  # (answer, reason, detail) that the next call may be told
    ended: bool = False  # without a program: the model repeats itself

    @property
    def wanted(self) -> bool:
        return self.candidate is None and not self.ended


class LESRSearch(Method[Config]):
    artifact = "lesr"  # its directory is outputs/artifacts/lesr/<id>

    @classmethod
    def reads(cls, config: Config) -> tuple[Reads, ...]:
        return "llm", "env.task", "env.task.observation"

    @classmethod
    def work(cls, run: "Run") -> tuple[int, str]:
        """What a whole search trains."""
        candidates = run.method.iterations * run.method.k * run.method.seeds
        return candidates * run.budget.env_steps, "env_steps"

    @classmethod
    def small(cls, config: Config, env_steps: int) -> Config:
        """The same search with the smallest numbers that touch everything; `llmrl check` runs it."""
        return dataclasses.replace(config, k=1, iterations=1, seeds=1, states=50)

    def run(self, ctx: "RunContext") -> dict[str, Any]:
        search = _Search(ctx)
        history: list[prompts.Round] = []
        for iteration in range(ctx.cfg.method.iterations):
            candidates = search.sample(iteration, history)
            search.train(candidates)
            last = iteration == ctx.cfg.method.iterations - 1
            if candidates and ctx.cfg.method.feedback and not last:  # no later prompt would hold the last one's
                history.append(search.think(iteration, candidates))
        return search.choose()


METHOD = LESRSearch


class _Search:
    def __init__(self, ctx: "RunContext") -> None:
        self.ctx, self.config = ctx, ctx.cfg.method
        check_task(ctx.cfg, "lesr")
        check_known_to_children(ctx.cfg.choices, "a search")
        ctx.rehearse()  # raises before the LLM is asked where the agent cannot act or learn here
        env = ctx.env("eval")
        steps = real_steps(env, self.config.states, self.config.seed)
        env.close()
        task, self.d = ctx.cfg.env.task, steps.states.shape[1]
        check_sheet(task, self.d)
        self.asker = prompts.Asker(task, ctx.cfg.env.suite, self.config)
        self.checker = Checker(self.config, steps.states, steps.rewards)
        self.candidates: list[Candidate] = []
        self.past = Tries()

    # --- K programs -------------------------------------------------------------------------------------------------

    def sample(self, iteration: int, history: list["prompts.Round"]) -> list[Candidate]:
        """K programs that pass the checks; fewer where `max_tries` calls, shared by the K, do not bring that many."""
        messages, tries = self.asker.ask(history), 0
        samples = [_Sample() for _ in range(self.config.k)]
        for number in turns(len(samples), self.config.max_tries, lambda n: samples[n].wanted):
            sample, index = samples[number], f"{iteration}/{number}/{tries}"
            rejection = sample.rejection if self.config.tell_rejections else None
            prompt = self.asker.retry(messages, rejection)
            reply = self.ctx.llm.ask(prompt, purpose=SAMPLE, index=index)
            tries += 1
            same = rejection is not None and reply.text == rejection[0]
            verdict = self._verdict(reply, index, REPEATED if same else self.past.fault(prompt, reply))
            if verdict["event"] == "accepted":
                code = self.checker.accept(reply)
                program_file(self.ctx.dir, f"{iteration}-{number}", code)
                facts = {key: verdict[key] for key in ("features", "ignored")}
                sample.candidate = Candidate(index, reply.text, code, **facts)
            elif verdict["reason"] == REPEATED and rejection is None:
                if sample.calls == 0:
                    break  # the other samples begin with the same messages
                sample.ended = True
            else:  # tell it why, once; then begin afresh, without what it could not mend
                told = rejection is not None
                sample.rejection = None if told else (reply.text, verdict["reason"], verdict["detail"])
            sample.calls += 1
        found = [sample.candidate for sample in samples if sample.candidate is not None]
        self.candidates += found
        if len(found) < len(samples):
            so = "the search goes on with what it has" if self.candidates else "there is no program yet"
            say(self.ctx.cfg, f"iteration {iteration}: {len(found)} of {len(samples)} programs, {tries} calls; {so}")
        return found

    def _verdict(self, reply: Reply, index: str, fault: str) -> dict[str, Any]:
        """What was recorded of an answer: accepted, or rejected and why. It is checked where nothing was.
        `fault`: why the reply is not to be read, or ""."""
        events = self.ctx.llm.transcript.events
        known = [events[key] for kind in ("accepted", "rejected") if (key := (SAMPLE, index, kind)) in events]
        if known:  # from before an interruption
            return known[0]
        try:
            facts = self.checker.check(reply, fault)
        except Rejected as error:
            self.ctx.llm.event(SAMPLE, index, "rejected", reason=error.name, detail=error.detail[:500])
            say(self.ctx.cfg, f"{index}: rejected, {error.name}: {error.detail[:100]}")
            return events[SAMPLE, index, "rejected"]
        self.ctx.llm.event(SAMPLE, index, "accepted", **dataclasses.asdict(facts))
        return events[SAMPLE, index, "accepted"]

    # --- their trainings --------------------------------------------------------------------------------------------

    def train(self, candidates: list[Candidate]) -> None:
        """Trains each candidate as a run of its own. One that fails becomes feedback; the search goes on."""
        places = {c.index: [self._place(c, s) for s in range(self.config.seeds)] for c in candidates}
        trained = train(self.ctx, SAMPLE, places, lambda index, made: self._facts(made))
        for c in candidates:
            facts = trained[c.index]
            c.lipschitz, c.failed = facts["lipschitz"], facts["failed"]
            c.score = -np.inf if c.failed else facts["score"]
            say(self.ctx.cfg, f"{c.index}: {c.failed or f'score {c.score:,.2f}'}, {c.features} features")

    def _place(self, candidate: Candidate, number: int) -> Path:
        """Prepares the run directory of a candidate's training."""
        own, name = self.config, candidate.name
        wrapper = lesr_wrapper.Config(
            artifact=str(program_file(self.ctx.dir, name, candidate.code)), w=own.w, state=own.state, reward=own.reward,
            form=own.form, record=None if own.lipschitz == "spectral_norm" else own.lipschitz, scaled=own.scaled,
            drop=(),
        )  # fmt: skip
        seed = seeding.integer(own.seed, "candidate", name, number)
        return place(self.ctx.cfg, self.ctx.dir, name + (f"-seed{number}" if number else ""), wrapper, seed)

    def _facts(self, places: Sequence[Path]) -> dict[str, Any]:
        """The results of a candidate's trainings, averaged over their seeds."""
        if failed := failure(places):
            return {"failed": failed, "score": None, "lipschitz": []}
        score = float(np.mean([self._score(one) for one in places]))
        return {
            "failed": "" if np.isfinite(score) else "failed: its score is not finite", "score": score,
            "lipschitz": np.mean([self._lipschitz(p) for p in places], axis=0).round(6).tolist(),
        }  # fmt: skip

    def _score(self, place: Path) -> float:
        """The mean of the evaluations in the last `score_window` env_steps, `score_evaluations` of them at least."""
        rows = [r for r in read_jsonl(place / "eval.jsonl") if r["policy"] == "greedy"]
        begin = self.ctx.cfg.budget.env_steps - self.config.score_window
        n = max(self.config.score_evaluations, sum(r["env_steps"] > begin for r in rows))
        key = "returns" if self.config.score == "return" else self.config.score
        return float(np.mean([np.mean(r[key]) for r in rows[-n:]]))

    def _lipschitz(self, place: Path) -> list[float]:
        if self.config.lipschitz != "spectral_norm":
            return result_of(place)["wrapper"]["lipschitz"]
        import torch

        state = torch.load(place / "agent.pt", map_location="cpu", weights_only=True)
        width = self.d + result_of(place)["wrapper"]["features"]
        return spectral(critic_weights(state), width).tolist()

    # --- feedback and choice ----------------------------------------------------------------------------------------

    def think(self, iteration: int, candidates: list[Candidate]) -> "prompts.Round":
        """Lets the LLM analyse the results (the chain-of-thought call); both go into the next prompt."""
        suggestions = self._suggestions(iteration, candidates) if self.config.chain_of_thought else None
        return prompts.Round(candidates, suggestions)

    def _suggestions(self, iteration: int, candidates: list[Candidate]) -> str | None:
        """The analysis; None where no answer could be used, so that the next prompt holds the scores alone."""
        messages = self.asker.feedback(candidates)
        for attempt in range(FEEDBACK_TRIES):
            index = f"{iteration}/{attempt}" if attempt else str(iteration)
            reply = self.ctx.llm.ask(messages, purpose=FEEDBACK, index=index)
            if not (fault := self.past.fault(messages, reply)):
                return reply.text
            self.ctx.llm.event(FEEDBACK, index, "rejected", reason=fault, detail=why(fault, reply))
            if fault == REPEATED:
                break
        return None

    def choose(self) -> dict[str, Any]:
        """Writes the best program of all iterations to transform.py. Returns the search's result and cost."""
        scored = [c for c in self.candidates if not c.failed]
        if not scored:
            reasons = ", ".join(f"{reason} {n}x" for reason, n in self._rejections().items())
            raise RuntimeError(
                f"None of the {len(self.candidates)} programs was trained to its end, so the search has no "
                f"best one. Rejected answers: {reasons or 'none'}. {self.ctx.dir / 'llm.jsonl'} has each reason."
            )
        best = max(scored, key=lambda c: c.score)
        write_text(self.ctx.dir / PROGRAM, best.code)
        places = [self._place(c, s) for c in self.candidates for s in range(self.config.seeds)]
        candidates = [
            {"index": c.index, "score": None if c.failed else c.score, "failed": c.failed, "features": c.features}
            for c in self.candidates
        ]
        return totals(places) | {
            "lesr": {"chosen": best.index, "features": best.features, "candidates": candidates,
                     "rejected": self._rejections(), "empty": self._empty()},
        }  # fmt: skip

    def _empty(self) -> int:
        """Samples for which no program was found."""
        return self.config.k * self.config.iterations - len(self.candidates)

    def _rejections(self) -> dict[str, int]:
        reasons = [e["reason"] for (purpose, _, kind), e in self.ctx.llm.transcript.events.items()
                   if purpose in (SAMPLE, FEEDBACK) and kind == "rejected"]  # fmt: skip
        reasons += ["impure" for c in self.candidates if c.failed.startswith(IMPURE)]
        return {reason: reasons.count(reason) for reason in sorted(set(reasons))}


def critic_weights(state: dict) -> list[np.ndarray]:
    """The weight matrices (out, in) of an agent's first critic, from its state_dict."""
    return [w.numpy() for name, w in state["critic"].items() if name.startswith("nets.0.") and name.endswith("weight")]

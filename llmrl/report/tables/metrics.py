"""The numbers of a run that a table can show: of its evaluations, what it cost, and what the papers measure."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from llmrl.checks import ConfigError, nearest
from llmrl.contracts.report import Metric
from llmrl.papers import offered, reports
from llmrl.report.published import atari_reference
from llmrl.report.store import files
from llmrl.report.store.record import Kind, RunRecord, score

SCORES: dict[Kind, str] = {
    "train_last_100": "the mean of the last 100 training episodes, under exploration",
    "last": "the last evaluation",
    "best": "the best evaluation, chosen on the cases that it is reported on",
    "train_last_tenth": "the mean of the training episodes that ended in the last tenth of training, under exploration",
}


@dataclass(frozen=True)
class Score:
    """Which evaluations or episodes of a run count: train_last_100, last, best, train_last_tenth or mean_last_<k>."""

    kind: Kind
    k: int = 5

    @classmethod
    def parse(cls, text: str) -> "Score":
        """Raises ConfigError for an unknown one."""
        for kind in SCORES:
            if kind == text:
                return cls(kind)
        if match := re.fullmatch(r"mean_last_(k|[1-9]\d*)", text):
            return cls("mean_last_k", 5 if match[1] == "k" else int(match[1]))
        raise ConfigError(f"score: there is no `{text}`. There are: {', '.join(SCORES)}, mean_last_<k> (mean_last_5).")

    @property
    def name(self) -> str:
        """As a table's yaml names it."""
        return self.kind if self.kind in SCORES else f"mean_last_{self.k}"

    @property
    def text(self) -> str:
        """In words, for captions."""
        return SCORES.get(self.kind, f"the mean of the last {self.k} evaluations")


@dataclass(frozen=True)
class Evaluated:
    """A number of a run's episodes: it depends on the table's score, and on the evaluation_set of evaluation cases."""

    unit: str
    number: Callable[[RunRecord, Score, str | None], float | None]
    one_scale: bool = False


def returns(record: RunRecord, which: Score, evaluation_set: str | None) -> float | None:
    """The episodes' return."""
    return (
        successes("returns", record, which, evaluation_set) if evaluation_set else score(record, which.kind, k=which.k)
    )


def human_normalised(record: RunRecord, which: Score, evaluation_set: str | None) -> float | None:
    """100 (return - random) / (human - random). Raises ConfigError where these are not known."""
    value = score(record, which.kind, k=which.k)
    if value is None:
        return None
    if record.env not in (reference := atari_reference()):
        raise ConfigError(f"metric: human_normalised needs a random and a human score, {record.env} has none")
    random, human = reference[record.env]
    return 100 * (value - random) / (human - random)


def successes(key: str, record: RunRecord, which: Score, evaluation_set: str | None) -> float | None:
    """The mean of a key of the evaluations, such as a rule of success."""
    return files.evaluated(record.path / "eval.jsonl", key, evaluation_set, which.kind, which.k)


RATES = {
    "success": "success rate",
    "success_authors": "success rate, the authors' rule",
    "success_official": "success rate, the official rule",
}
NORMALISED = "normalised"  # fill.py makes it of the table's metric; where that is `normalised` itself, of the return
EVALUATED = {
    "return": Evaluated("return", returns),
    "human_normalised": Evaluated("human-normalised score, %", human_normalised, one_scale=True),
    NORMALISED: Evaluated("normalised score, %", returns, one_scale=True),
} | {rule: Evaluated(unit, partial(successes, rule), one_scale=True) for rule, unit in RATES.items()}


def env_steps_total(record: RunRecord) -> float:
    """env_steps of training, those of what it builds on included."""
    own = record.steps if record.unit == "env_steps" else 0
    return float((record.result or {}).get("env_steps_total", own))


def usd(record: RunRecord) -> float | None:
    """What its calls cost; None where a price is not known."""
    return None if (record.llm or {}).get("calls_without_price") else of_llm("usd", record)


def hours(record: RunRecord) -> float | None:
    """Of training, at its median speed."""
    return record.steps / record.steps_per_s / 3600 if record.steps_per_s else None


def of_llm(key: str, record: RunRecord) -> float:
    """A count of the LLM's usage; 0 where none was asked."""
    return float((record.llm or {}).get(key, 0))


def training_return(record: RunRecord) -> float | None:
    """The mean of the last 100 training episodes, under exploration; None where nothing was trained."""
    return record.train_last[0] if record.train_last else None


COSTS = {
    "training_return": Metric("return of the last 100 training episodes", training_return),
    "usd": Metric("USD", usd),
    "hours": Metric("h", hours),
    "env_steps_total": Metric("env_steps", env_steps_total),
    "llm_calls": Metric("calls", partial(of_llm, "calls")),
    "prompt_tokens": Metric("tokens", partial(of_llm, "prompt_tokens")),
    "completion_tokens": Metric("tokens", partial(of_llm, "completion_tokens")),
}


def known() -> dict[str, Evaluated | Metric]:
    """All metrics by name, those of the papers included."""
    return offered({**EVALUATED, **COSTS}, {paper: report.metrics for paper, report in reports().found.items()})


def checked(name: str) -> str:
    """The name of a metric. Raises ConfigError with the nearest one where there is none."""
    if name not in (metrics := known()):
        problems = "".join(f" ({problem})" for problem in reports().problems)
        raise ConfigError(f"there is no metric `{name}`.{nearest(name, metrics)}{problems}")
    return name

"""LESR's prompts: the first one, the feedback on trained programs, and the next round's (docs/papers/lesr.md).

The texts are ours and stand in prompts/*.txt; all are plain user messages.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from llmrl.contracts.env import Task
    from llmrl.methods.lesr.search import Config

PROMPTS = Path(__file__).parent
GOAL_SUITES = ("robotics",)  # AntMaze, Fetch, Adroit: first coordinate the body, then reach the goal
SCORES = {
    "return": "mean return of the last evaluations",
    "success_authors": "success rate of the last evaluations",
    "success_official": "success rate of the last evaluations",
}
LIPSCHITZ = {
    "episode": "taken as a map to the task's reward",
    "cumulative": "taken as a map to the task's reward",
    "discounted_return": "taken as a map to the discounted return that followed",
    "spectral_norm": "taken as a map to the learnt value, and bounded by the norms of the value network's weights",
}
SCALED = ", with the dimension in units of its standard deviation"
Message = dict[str, str]


class Candidate(Protocol):
    """A trained program, as prompts describe it."""

    reply: str  # the whole answer that it came in
    code: str
    score: float  # -inf where it failed
    failed: str  # "failed: why", or ""
    features: int  # added dimensions
    lipschitz: list[float]  # of all dimensions, source first; empty where none was measured
    ignored: list[int]  # indices of added dimensions that the intrinsic reward does not depend on


@dataclass(frozen=True)
class Round:
    """One iteration, as later prompts describe it."""

    candidates: Sequence[Candidate]
    suggestions: str | None  # the LLM's analysis of the results; None: not asked for


class Asker:
    """The messages of one search; each method returns [{"role": …, "content": …}, …]."""

    def __init__(self, task: "Task", suite: str, config: "Config") -> None:
        self._task, self._config = task, config
        self._dimensions = task.observation or ()  # not empty: check_task
        self._d = len(self._dimensions)
        self._hinted = suite in GOAL_SUITES
        self._features = config.writes == "features_and_reward"
        self._request: list[Message] = []  # of the round under way: feedback goes on from it

    def ask(self, history: Sequence[Round]) -> list[Message]:
        """For a program: the first prompt, or after rounds with feedback the next one's."""
        self._request = next_round(self, history) if history else first(self)
        return self._request

    def retry(self, messages: list[Message], rejection: tuple[str, str, str] | None) -> list[Message]:
        """The same messages; after a rejected (reply, name, detail) to include (D11), those and the rejection."""
        if rejection is None:
            return messages
        reply, name, detail = rejection
        request = fill("retry", name=name, detail=without_paths(detail))
        return [*messages, {"role": "assistant", "content": reply}, user(request)]

    def feedback(self, candidates: Sequence[Candidate]) -> list[Message]:
        """For an analysis of how the round's programs did (the chain-of-thought call): the prompt that they answered,
        the best one's reply, and the results."""
        best = max(candidates, key=lambda c: c.score)
        return [*self._request, {"role": "assistant", "content": best.reply}, user(feedback(self, candidates))]

    # --- parts of the prompts ---------------------------------------------------------------------------------------

    def common(self) -> dict[str, str]:
        """What the first and the next prompt share: $task, $assignment, $output."""
        writes, facts = self._config.writes, {"d": self._d, "last": self._d - 1}
        dimensions = "\n".join(f"- s[{i}]: {meaning}" for i, meaning in enumerate(self._dimensions))
        text = {key: str(getattr(self._task, key)).strip() for key in ("name", "description", "reward", "end", "goal")}
        hint = "\n" + fill("hint", what=self._what()) if self._hinted else ""
        reward_and_end = fill("task_told", **text) + "\n" if self._config.tell == "reward" else ""
        return {
            "task": fill("task", dimensions=dimensions, told=reward_and_end, **text, **facts),
            "assignment": fill(f"assignment_{writes}", hint=hint, use=self._use(), **facts),
            "output": fill(f"output_{writes}", next=self._d + 1, **facts),
        }

    def results(self, candidates: Sequence[Candidate]) -> str:
        """A block for each program: its code, how it did, and the constants of its dimensions."""
        return "\n\n".join(self._block(number, c) for number, c in enumerate(candidates, 1))

    def measured(self) -> str:
        lines = [f"- The final performance: the {SCORES[self._config.score]}. Higher is better."]
        if self._config.tell_lipschitz:
            of = LIPSCHITZ[self._config.lipschitz] + (SCALED if self._scaled() else "")
            lines.append(fill("measured_lipschitz", lipschitz=of))
        return "\n".join(lines)

    def score(self) -> str:
        return "return" if self._config.score == "return" else "success rate"

    def _use(self) -> str:
        """How the agent uses the number that intrinsic_reward returns."""
        if self._config.reward == "replace":
            return "the whole reward that the agent learns from"
        if self._config.tell == "authors":
            return "an intrinsic reward for the task"
        return f"added to the task's reward with the weight {self._config.w:g}"

    def _what(self) -> str:
        return "both functions" if self._features else "the function"

    def _scaled(self) -> bool:
        return self._config.scaled and self._config.lipschitz != "spectral_norm"

    def _block(self, number: int, c: Candidate) -> str:
        lines = [f"Program {number}:", f"```python\n{c.code.strip()}\n```"]
        if c.failed:
            return "\n".join([*lines, f"Its training {without_paths(c.failed)}"])
        lines.append(f"Final performance ({SCORES[self._config.score]}): {c.score:.2f}")
        d, end = self._d, self._d + c.features
        measured = self._config.tell_lipschitz and len(c.lipschitz) == end
        lines.append(f"Source dimensions 0 to {d - 1}" + (_constants(c.lipschitz, 0, d) if measured else ""))
        if c.features:
            lines.append(f"Added dimensions {d} to {end - 1}" + (_constants(c.lipschitz, d, end) if measured else ""))
        if c.ignored:
            lines.append(f"The intrinsic reward does not depend on dimensions {', '.join(map(str, c.ignored))}")
        return "\n".join(lines)


# --- the three prompts ------------------------------------------------------------------------------------------------


def first(asker: Asker) -> list[Message]:
    return [user(fill("first", **asker.common()))]


def next_round(asker: Asker, history: Sequence[Round]) -> list[Message]:
    """As the first prompt, with the results and the suggestions of all former rounds."""
    rounds = [
        f"Iteration {number}:\n{asker.results(past.candidates)}"
        + (f"\n\nSuggestions after iteration {number}:\n{past.suggestions.strip()}" if past.suggestions else "")
        for number, past in enumerate(history, 1)
    ]
    return [user(fill("next_round", history="\n\n".join([asker.measured(), *rounds]), **asker.common()))]


def feedback(asker: Asker, candidates: Sequence[Candidate]) -> str:
    return fill(
        "feedback", count=len(candidates), measured=asker.measured(), candidates=asker.results(candidates),
        score=asker.score(), what=asker._what(),
    )  # fmt: skip


# --- helpers ----------------------------------------------------------------------------------------------------------


def fill(template: str, **values: object) -> str:
    """The text of a prompt file with its $names filled in."""
    return _template(template).substitute(values)


@cache
def _template(name: str) -> Template:
    return Template((PROMPTS / f"{name}.txt").read_text(encoding="utf-8").strip())


def user(content: str) -> Message:
    return {"role": "user", "content": content}


def without_paths(text: str) -> str:
    """An error's text without the paths of this machine."""
    return re.sub(r"(?<![\w.])(?:~|[A-Za-z]:)?(?:[\\/][\w.@+-]+){2,}[\\/]?", "<path>", text)


def _constants(values: Sequence[float], begin: int, end: int) -> str:
    return ", Lipschitz constants: " + ", ".join(f"{i}: {values[i]:.2f}" for i in range(begin, end))

"""LLM-Explorer's prompts: how the last episode went, and what is to be explored next (docs/papers/llm_explorer.md).

The texts are ours and stand in prompts/*.txt; each call is a system message with the task, and a user message.
"""

from functools import cache
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any, Literal

from numpy.typing import NDArray
from pydantic import Field, create_model

from llmrl.checks import ConfigError
from llmrl.llm.forms import Structured

if TYPE_CHECKING:
    from llmrl.contracts.env import Task

PROMPTS = Path(__file__).parent
Message = dict[str, str]
Kind = Literal["discrete", "continuous"]
WORDS = {  # kind of actions -> what is asked for: of each what, what number, in which field
    "discrete": {"one": "action", "number": "its probability as a decimal number", "field": "probabilities",
                 "word": "probability"},
    "continuous": {"one": "dimension", "number": "its bias as a signed decimal number", "field": "biases",
                   "word": "bias"},
}  # fmt: skip


class Asker:
    """The messages about one task. `n`: actions, or dimensions of one; `analysis`: an answer begins with one."""

    def __init__(self, task: str, *, discrete: bool, n: int, analysis: bool) -> None:
        self._task, self.n, self._analysis, self.discrete = task, n, analysis, discrete
        self._kind: Kind = "discrete" if discrete else "continuous"
        self.form = form(self._kind, n, analysis)  # of an answer with numbers

    def situation(self, actions: NDArray, episode_return: float) -> str:
        """How an episode went: some of its actions (count,) or (count, n), in the order of time."""
        facts = {"count": len(actions), "actions": _listed(actions), "episode_return": _number(episode_return)}
        return fill(f"episode_{self._kind}", n=self.n, **facts)

    def described(self, description: str) -> str:
        """How an episode went, as the LLM described it."""
        return fill("strategy_description", description=description)

    def status(self, situation: str) -> list[Message]:
        """For a description of the situation."""
        return self._messages("status_system", situation, fill("status_request"))

    def strategy(self, situation: str | None) -> list[Message]:
        """For the numbers; None: nothing is told of the training."""
        words = WORDS[self._kind]
        facts = {"n": self.n, "last": self.n - 1, **words}
        answer = fill("answer_analysis" if self._analysis else "answer_object", **facts)
        request = fill(f"strategy_{self._kind}", answer=answer, format=self._format(), **facts)
        return self._messages("strategy_system", *([] if situation is None else [situation]), request)

    def _format(self) -> str:
        words, n = WORDS[self._kind], self.n
        keys = range(n) if n <= 3 else (0, 1, "...", n - 1)
        numbers = "{" + ", ".join("..." if key == "..." else f'"{key}": {words["word"]}' for key in keys) + "}"
        return f'{{"analysis": "...", "{words["field"]}": {numbers}}}' if self._analysis else numbers

    def _messages(self, system: str, *parts: str) -> list[Message]:
        return [
            {"role": "system", "content": fill(system, task=self._task)},
            {"role": "user", "content": "\n\n".join(parts)},
        ]


@cache
def form(kind: Kind, n: int, analysis: bool) -> type[Structured]:
    """What an answer with n numbers consists of."""
    fields: dict[str, Any] = {f"number_{i}": (float, Field(alias=str(i))) for i in range(n)}
    numbers = create_model("numbers", __base__=Structured, **fields)
    if not analysis:
        return numbers
    named: dict[str, Any] = {"analysis": (str, ...), WORDS[kind]["field"]: (numbers, ...)}
    return create_model("strategy", __base__=Structured, **named)


def task_text(task: "Task", prompt: Literal["full", "name"], *, with_reward: bool = True) -> str:
    """The prompt's description of the task, with or without its reward and end.

    Raises ConfigError where the task has no text for a `full` prompt.
    """
    if prompt == "name":
        return fill("task_name", name=task.name)
    parts = ("description", "actions", "reward", "end", "goal")
    missing = [part for part in parts if not getattr(task, part)]
    if missing:
        raise ConfigError(
            f"method.prompt=full needs the text of the task, but env.task of {task.name} has no {', '.join(missing)}. "
            "Write it in the environment's yaml (conf/env/<suite>/<task>.yaml, key task), or use method.prompt=name"
        )
    actions = "\n".join(f"{number}: {meaning}" for number, meaning in enumerate(task.actions or ()))
    texts = {part: str(getattr(task, part)).strip() for part in parts if part != "actions"}
    reward_and_end = fill("task_told", **texts) + "\n" if with_reward else ""
    return fill("task_full", actions=actions, told=reward_and_end, **texts)


def fill(template: str, **values: Any) -> str:
    """The text of a prompt file with its $names filled in."""
    return _template(template).substitute(values)


@cache
def _template(name: str) -> Template:
    return Template((PROMPTS / f"{name}.txt").read_text(encoding="utf-8").strip())


def _number(value: float) -> str:
    return repr(round(float(value), 3) + 0.0)  # + 0.0: never "-0.0"


def _listed(actions: NDArray) -> str:
    if actions.ndim == 1:
        return ", ".join(str(int(action)) for action in actions)
    return ", ".join("[" + ", ".join(map(_number, action.ravel())) + "]" for action in actions)

"""What Eureka tells the LLM: its role and the form of an answer, the task, and how the best reward's training went
(docs/papers/eureka.md). The texts are ours and stand in prompts/*.txt.
"""

import inspect
import textwrap
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from string import Template
from typing import Literal

import gymnasium as gym

from llmrl.contracts.env import Task
from llmrl.methods.eureka.measure import PROGRESS, SUCCESS

PROMPTS = Path(__file__).parent
Message = dict[str, str]
MEASURES = {SUCCESS: "the success rate", PROGRESS: "the way forward"}


def first(task: Task, context: str) -> list[Message]:
    """The messages that every sample of a first iteration answers: system, then the task."""
    actions = task.actions or ()
    text = fill(
        "task", name=task.name, description=str(task.description).strip(), goal=str(task.goal).strip(),
        end=str(task.end).strip(), context=context, actions=len(actions),
        action_sheet="\n".join(f"- action[{i}]: {meaning}" for i, meaning in enumerate(actions)),
    )  # fmt: skip
    return [message("system", fill("system")), message("user", text)]


def context_of(kind: Literal["sheet", "code"], task: Task, env: gym.Env) -> str:
    """What the state holds: the meaning of its dimensions, or the environment's own code that makes it, without any
    reward. Raises ValueError where the environment has no such code."""
    sheet = task.observation or ()
    if kind == "sheet":
        dimensions = "\n".join(f"- state[{i}]: {meaning}" for i, meaning in enumerate(sheet))
        return fill("sheet", d=len(sheet), dimensions=dimensions)
    observe = getattr(type(env.unwrapped), "_get_obs", None)
    if observe is None:
        raise ValueError(f"{type(env.unwrapped).__name__} has no method _get_obs to show; use context=sheet")
    return fill("code", d=len(sheet), code=textwrap.dedent(inspect.getsource(observe)).strip())


def next_round(messages: Sequence[Message], best: str, values: Mapping[str, Sequence[float]], measure: str
               ) -> list[Message]:  # fmt: skip
    """The messages of a later iteration, always four: the first two, the best answer of the last iteration, and how
    its training went, as `values` (name -> over the training, in order) tell."""
    lines = [_line(name, points) for name, points in values.items()]
    zero = "zero" if measure == SUCCESS else "that of an agent which stands still"
    text = fill(
        "reflection", values="\n".join(lines), measure=MEASURES[measure], zero=zero, output=fill("output")
    )  # fmt: skip
    return [*messages[:2], message("assistant", best), message("user", text)]


def _line(name: str, points: Sequence[float]) -> str:
    shown = ten(points)
    told = ", ".join(f"{value:.2f}" for value in shown)
    if not points:
        return f"{name}: nothing was measured"
    mean = sum(points) / len(points)
    return f"{name}: [{told}], max {max(points):.2f}, mean {mean:.2f}, min {min(points):.2f}"


def ten(points: Sequence[float]) -> list[float]:
    """Ten of n points, evenly spread from the first on; all where there are fewer."""
    n = len(points)
    return [points[i * n // 10] for i in range(10)] if n > 10 else list(points)


def fill(template: str, **values: object) -> str:
    """The text of a prompt file with its $names filled in."""
    return _template(template).substitute(values)


@cache
def _template(name: str) -> Template:
    return Template((PROMPTS / f"{name}.txt").read_text(encoding="utf-8").strip())


def message(role: str, content: str) -> Message:
    return {"role": role, "content": content}

"""Sentences, and the goals and plans that an LLM reads in them, as slots of the table (docs/papers/explorllm.md).

An answer that cannot be read has a named reason, and the LLM is asked again.
"""

import json
import re
from pathlib import Path
from string import Template
from typing import Any, Literal

from llmrl.envs.pick_place.scene import Scene
from llmrl.envs.pick_place.task import thing
from llmrl.llm.forms import Structured

PROMPTS = Path(__file__).with_name("prompts")
Goal = tuple[int, int]  # (slot to pick, bowl), both 0-2

# wordings of one goal; by the case's number, so that every run has the same ones
SENTENCES = (
    "Put the {item} in the {bowl}.",
    "I would like to see the {item} in the {bowl}, please.",
    "Could you drop the {item} into the {bowl}?",
    "Take the {item}. It belongs in the {bowl}.",
    "The {bowl} is where the {item} should go.",
    "Fill the {bowl} with the {item} and nothing else.",
    "the {item} -> the {bowl}",
    "Please tidy up: there is a place for the {item} in the {bowl}.",
)
EVERYTHING = "Put all the letters in the bowls of their own colours."


class Step(Structured):
    """The numbers of an object and of a bowl."""

    pick: Literal[0, 1, 2]
    place: Literal[3, 4, 5]


class GoalAnswer(Structured):
    reasoning: str
    pick: Literal[0, 1, 2]
    place: Literal[3, 4, 5]


class PlanAnswer(Structured):
    reasoning: str
    steps: list[Step]


FORMS: dict[str, type[Structured]] = {"goal": GoalAnswer, "plan": PlanAnswer}


class Unreadable(ValueError):
    """The answer cannot be read; `name` is the reason's."""

    def __init__(self, name: str, detail: str) -> None:
        super().__init__(f"{name}: {detail}")
        self.name = name


def sentence_for(scene: Scene, number: int) -> str:
    """A wording of the scene's goal."""
    assert scene.goal is not None
    item, bowl = thing(scene, scene.goal[0]), thing(scene, 3 + scene.goal[1])
    return SENTENCES[number % len(SENTENCES)].format(item=item, bowl=bowl)


def question(template: str, scene: Scene, sentence: str) -> list[dict[str, Any]]:
    """The messages that ask for a "goal" or a "plan"."""
    things = "\n".join(f"- {slot}: the {thing(scene, slot)}" for slot in range(6))
    text = Template((PROMPTS / f"{template}.txt").read_text(encoding="utf-8").strip())
    return [{"role": "user", "content": text.substitute(things=things, sentence=sentence)}]


def read_goal(text: str) -> Goal:
    """The goal in an answer. Raises Unreadable."""
    steps = read_plan(text)
    if len(steps) != 1:
        raise Unreadable("several", f"{len(steps)} goals where one was asked for")
    return steps[0]


def read_plan(text: str) -> list[Goal]:
    """The steps in an answer: of the object that it is or, with words around it, of its last list or object. Raises
    Unreadable."""
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        whole = None
    if isinstance(whole, dict):
        steps = whole.get("steps", whole)
        return [_step(step) for step in (steps if isinstance(steps, list) else [steps])]
    lists = [part for part in re.findall(r"\[[^\[\]]*\]", text) if "{" in part]
    found = lists or re.findall(r"\{[^{}]*\}", text)
    if not found:
        raise Unreadable("no_json", text[:100])
    try:
        value = json.loads(found[-1])
    except (ValueError, RecursionError) as error:
        raise Unreadable("no_json", str(error)) from None
    return [_step(step) for step in (value if isinstance(value, list) else [value])]


def _step(step: Any) -> Goal:
    pick, place = (step.get(key) if isinstance(step, dict) else None for key in ("pick", "place"))
    if type(pick) is not int or type(place) is not int:
        raise Unreadable("no_numbers", f"{step}"[:300])
    if pick not in (0, 1, 2) or place not in (3, 4, 5):
        raise Unreadable("no_such_object", f"pick {pick} and place {place}; objects are 0-2, bowls 3-5")
    return pick, place - 3

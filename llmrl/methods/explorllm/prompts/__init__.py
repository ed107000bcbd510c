"""ExploRLLM's prompts for a planner, a pick program and a place program (docs/papers/explorllm.md).

The texts are ours and stand in prompts/*.txt; each is one user message, with images of crops for models that see.
"""

from functools import cache
from pathlib import Path
from string import Template
from typing import Any

from llmrl.methods.explorllm.examples import letter_crops, png_url

PROMPTS = Path(__file__).parent
ZOOM = 4
Message = dict[str, Any]


class Asker:
    """The messages for one task; env: the environment's Config; images: whether they hold images of crops."""

    def __init__(self, env: Any, *, images: bool, seed: int) -> None:
        self._env = env
        blocks = "block" in env.letters
        self._things = "blocks" if blocks else "letters"
        sizes = ", cubes of 40 mm" if blocks else f", flat and at most {100 * env.letter_scale:g} mm wide and high"
        self._scene = fill("scene", things=self._things, sizes=sizes)
        self._crops = letter_crops(env, seed) if images else []  # of each shape, and last of a bowl

    def planner(self) -> list[Message]:
        one = "Put the wanted object in the wanted bowl; wanted has one row."
        every = f"Put each of the {self._things} in the bowl of its own colour; wanted has a row for each of them."
        command = one if self._env.horizon == "short" else every
        return self._message("planner", "planner", [], command=command)

    def affordance(self) -> list[Message]:
        return self._message("affordance", "affordance", self._crops[:-1])

    def place_map(self) -> list[Message]:
        return self._message("place", "place_map", [self._crops[0], self._crops[-1]] if self._crops else [])

    def _message(self, template: str, function: str, crops: list, **values: str) -> list[Message]:
        names = ", ".join(name for name, _ in crops)
        legend = "\n" + fill("pictures", zoom=ZOOM, names=names) + "\n" if crops else ""
        rules = fill("rules", function=function)
        text = fill(template, scene=self._scene, rules=rules, **({} if function == "planner" else {"pictures": legend}),
                    **values)  # fmt: skip
        if not crops:
            return [{"role": "user", "content": text}]
        images = [{"type": "image_url", "image_url": {"url": png_url(crop, ZOOM)}} for _, crop in crops]
        return [{"role": "user", "content": [{"type": "text", "text": text}, *images]}]


def fill(template: str, **values: object) -> str:
    """The text of a prompt file with its $names filled in."""
    return _template(template).substitute(values)


@cache
def _template(name: str) -> Template:
    return Template((PROMPTS / f"{name}.txt").read_text(encoding="utf-8").strip())

"""`llm=scripted` for ExploRLLM's sentences: finds the things that a sentence names, by their words, in the prompt."""

import json
import re

REASONING = "A scripted answer, by no language model."


def goal(messages: list[dict], index: str) -> str:
    """The object and the bowl that share the most words with the sentence."""
    things, sentence = _read(messages)
    pick, place = (max(slots, key=lambda i: _shared(things[i], sentence)) for slots in (range(3), range(3, 6)))
    return json.dumps({"reasoning": REASONING, "pick": pick, "place": place})


def plan(messages: list[dict], index: str) -> str:
    """Every object in the bowl of its colour, which is the first word of its name."""
    things, _ = _read(messages)
    bowls = {things[i].split()[0]: i for i in range(3, 6)}
    steps = [{"pick": i, "place": bowls.get(things[i].split()[0], 3)} for i in range(3)]
    return json.dumps({"reasoning": REASONING, "steps": steps})


def _read(messages: list[dict]) -> tuple[list[str], str]:
    """The names of the six things, and the sentence."""
    text = messages[-1]["content"]
    return re.findall(r"^- \d: the (.+)$", text, re.MULTILINE), _first(r'The user says: "(.*)"', text)


def _first(pattern: str, text: str) -> str:
    """The group of the first match; the prompts are ours, so there is one."""
    return re.findall(pattern, text)[0]


def _shared(name: str, sentence: str) -> int:
    """How many of the name's words stand in the sentence side by side, the whole name before all."""
    words = name.split()
    return max(
        (stop - start for start in range(len(words)) for stop in range(start + 1, len(words) + 1)
         if re.search(rf"\b{re.escape(' '.join(words[start:stop]))}\b", sentence)),
        default=0,
    )  # fmt: skip


RULES = {"explorllm.goal": goal, "explorllm.plan": plan}

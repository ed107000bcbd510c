"""`llm=scripted` for KALM: repeats a goal behind another opening."""

import re

OPENINGS = (
    "Please",
    "Be so kind as to",
    "I would like you to",
    "What about this:",
    "Your next task:",
    "Now",
    "Do this for me:",
)


def rephrase(messages: list[dict], index: str) -> str:
    """The goal in its own words behind n different openings."""
    text = messages[-1]["content"]
    goal, n = re.findall(r"This is the goal: (.+)\.\n", text)[0], int(re.findall(r"Write (\d+) ", text)[0])
    again = [" ".join(["once more,"] * (i // len(OPENINGS)) + [goal[0].lower() + goal[1:]]) for i in range(n)]
    lines = [f"{OPENINGS[i % len(OPENINGS)]} {words}" for i, words in enumerate(again)]
    return "\n".join(["A scripted answer, by no language model.", *lines])


RULES = {"kalm.rephrase": rephrase}

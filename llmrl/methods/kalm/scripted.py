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
    """The goal in its own words behind n different openings, or that it is the other way round, and is disliked."""
    text = messages[-1]["content"]
    n = int(re.findall(r"Write (\d+) ", text)[0])
    if now := re.findall(r"This is how it is: (.+)\.\n", text):
        return "\n".join(f"I dislike that {now[0]}" + "; change it" * (i + 1) for i in range(n))
    goal = re.findall(r"This is the goal: (.+)\.\n", text)[0]
    again = [" ".join(["once more,"] * (i // len(OPENINGS)) + [goal[0].lower() + goal[1:]]) for i in range(n)]
    lines = [f"{OPENINGS[i % len(OPENINGS)]} {words}" for i, words in enumerate(again)]
    return "\n".join(["A scripted answer, by no language model.", *lines])


RULES = {"kalm.rephrase": rephrase}

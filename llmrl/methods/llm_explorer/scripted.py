"""`llm=scripted` for LLM-Explorer: rare actions get more exploration; it knows neither the task nor a good policy."""

import json
import re

import numpy as np

NUMBER = r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?"
BIAS = 0.05  # action units: the bias against a dimension whose mean is 1


def describe(prompt: str) -> str:
    """LLM-Explorer, the first call: the latest episode in words and numbers."""
    actions = _actions(prompt)
    found = re.search(rf"total reward of ({NUMBER})", prompt)
    text = f"The latest episode brought a total reward of {found[1] if found else 'unknown size'}. "
    if actions.ndim == 1:
        numbers, counts = np.unique(actions.astype(int), return_counts=True)
        shares = ", ".join(f"action {a}: {100 * c / len(actions):.1f}%" for a, c in zip(numbers, counts, strict=True))
        rare = int(numbers[counts.argmin()])
        return f"{text}Shares of the actions: {shares}. Action {rare} and those not named were hardly tried."
    means = ", ".join(f"dimension {d}: {mean:+.3f}" for d, mean in enumerate(actions.mean(axis=0)))
    spread = ", ".join(f"{s:.3f}" for s in actions.std(axis=0))
    return f"{text}Means of the actions: {means}. Standard deviations: {spread}. Try the other directions as well."


def explore(prompt: str) -> str:
    """LLM-Explorer, the second call: more probability for rare actions, or a small bias against the mean."""
    if found := re.search(r"distribution over the (\d+) actions", prompt):
        n = int(found[1])
        shares = np.zeros(n)
        for action, percent in re.findall(rf"action (\d+): ({NUMBER})%", prompt):
            shares[int(action)] = float(percent) / 100
        weights = 1 / (shares + 1 / n)
        why = f"Action {int(shares.argmin())} was chosen least, so it is explored most."
        return _answered(prompt, why, (weights / weights.sum()).tolist())
    means = np.array([float(mean) for mean in re.findall(rf"dimension \d+: ({NUMBER})", prompt)])
    why = "Each dimension is explored a little against its mean."
    return _answered(prompt, why, (-BIAS * np.clip(means, -1, 1)).tolist())


def explore_directly(prompt: str) -> str:
    """LLM-Explorer with one call: the episode and the request stand in one prompt."""
    episode, _, request = prompt.partition("\n\n")
    return explore(f"{describe(episode)}\n\n{request}")


def constant(prompt: str) -> str:
    """LLM-Explorer's control without an episode: any fixed answer will do, as long as it is not plain exploration."""
    if found := re.search(r"distribution over the (\d+) actions", prompt):
        n = int(found[1])
        return _answered(prompt, "Nothing is known of the training.", [2 * (a + 1) / (n * (n + 1)) for a in range(n)])
    dimensions = re.search(r"each of the (\d+) action dimensions", prompt)
    return _answered(prompt, "Nothing is known of the training.", [BIAS] * (int(dimensions[1]) if dimensions else 0))


def _answered(prompt: str, analysis: str, values: list[float]) -> str:
    """The numbers as JSON, beside the analysis where the prompt asks for one."""
    numbers = {str(i): round(value, 4) for i, value in enumerate(values)}
    field = re.search(r'"analysis": "...", "(\w+)"', prompt)
    return json.dumps({"analysis": analysis, field[1]: numbers} if field else numbers)


def _actions(prompt: str) -> np.ndarray:
    """The sampled actions on the line below "in the order of time": (count,) numbers or (count, n) vectors."""
    line = prompt.partition("in the order of time:\n")[2].split("\n")[0]
    vectors = re.findall(r"\[([^\]]*)\]", line)
    rows = [[float(x) for x in re.findall(NUMBER, part)] for part in vectors or [line]]
    return np.array(rows if vectors else rows[0])


RULES = {
    "llm_explorer.status": lambda messages, index: describe(messages[-1]["content"]),
    "llm_explorer.strategy": lambda messages, index: explore(messages[-1]["content"]),
    "llm_explorer.strategy_directly": lambda messages, index: explore_directly(messages[-1]["content"]),
    "llm_explorer.constant": lambda messages, index: constant(messages[-1]["content"]),
}

"""`llm=scripted` for Eureka: reward programs written by us, good, poor and broken ones, so that a search has something
to tell apart. Which one comes follows from the prompt and the call's number; after a reflection it turns up the
component of the best program that varies most, as the tips ask.
"""

import re

KINDS = ("good", "poor", "good", "broken", "good", "idle")  # by the sample's number
BROKEN = ("not_a_pair", "syntax", "unknown_argument")


def sample(messages: list[dict], index: str) -> str:
    """A reply to Eureka's prompt; `index` is "restart/iteration/sample", or the number of a sample alone."""
    restart, iteration, number = [0, 0, 0, *(int(n) for n in re.findall(r"\d+", index))][-3:]
    kind = KINDS[(number + restart) % len(KINDS)]
    parts = POOR if kind == "poor" else IDLE if kind == "idle" else components(messages[1]["content"])
    weight = 1.0 + 0.25 * (iteration + number // len(KINDS)) + 0.01 * number
    code = program(parts, weight)
    if kind == "broken":
        code = spoilt(code, BROKEN[iteration % len(BROKEN)])
    return f"(A scripted answer, by no language model.) Components: {', '.join(parts)}.\n\n```python\n{code}```\n"


POOR = {"noise_of_first": "np.sin(50.0 * state[0])", "stillness": "-np.sum(np.abs(np.tanh(next_state)))"}
IDLE = {"alive": "1.0"}


def components(prompt: str) -> dict[str, str]:
    """Terms of the task, found by the words of its sheet."""
    sheet = {int(i): text for i, text in re.findall(r"^- state\[(\d+)\]: (.+)$", prompt, re.MULTILINE)}
    found: dict[str, str] = {}
    goals = [i for i, text in sheet.items() if "goal" in text and "position" in text] or [
        i for i, text in sheet.items() if "goal" in text
    ]
    if len(goals) >= 2:
        hand = [i for i, text in sheet.items() if "gripper" in text or "torso" in text][: len(goals)]
        gap = f"np.linalg.norm(next_state[{hand}] - next_state[{goals[: len(hand)]}])"
        found = {"distance": f"-{gap}", "near": f"np.exp(-{gap} / 0.1)"}
    elif forward := [i for i, text in sheet.items() if "velocity" in text and ("along x" in text or "forward" in text)]:
        found = {"forward": f"next_state[{forward[0]}]"}
        if height := [i for i, text in sheet.items() if text.startswith("height")]:
            found["upright"] = f"np.tanh(next_state[{height[0]}])"
    else:
        found = {"moving": "np.mean(np.abs(next_state - state))"}
    return found | {"effort": "-0.1 * np.sum(np.square(action))"}


def program(parts: dict[str, str], weight: float) -> str:
    first = next(iter(parts))
    lines = [f"    {name} = {code}" for name, code in parts.items()]
    total = " + ".join(f"{weight:.2f} * {name}" if name == first else name for name in parts)
    named = ", ".join(f'"{name}": {name}' for name in parts)
    return (
        "import numpy as np\n\n\ndef compute_reward(state, action, next_state):\n" + "\n".join(lines)
        + f"\n    reward = {total}\n    return reward, {{{named}}}\n"
    )  # fmt: skip


def spoilt(code: str, fault: str) -> str:
    """The program with one fault, for which the checks have that name."""
    if fault == "not_a_pair":
        return re.sub(r"return reward, .*", "return reward", code)
    if fault == "syntax":
        return code.replace("    reward = ", "    reward = (")
    return code.replace("(state, action, next_state)", "(state, action, target_speed)").replace("next_state", "state")


RULES = {"eureka.sample": sample}

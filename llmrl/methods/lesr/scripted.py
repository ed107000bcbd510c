"""`llm=scripted` for LESR: programs written by us, good, poor and broken ones, so that a search has something to find
and to reject. The choice follows from the prompt and the try's number; after the first round it builds on the best
program in the prompt.
"""

import re
from typing import NamedTuple


class Feature(NamedTuple):
    name: str
    code: str  # of the state s
    weight: float  # in the intrinsic reward


def table(*rows: tuple[str, str, float]) -> list[Feature]:
    return [Feature(*row) for row in rows]


def walker(vx: int, joints: str, rates: str) -> list[Feature]:
    """A body in a vertical plane: 0 height, 1 lean, then joints; velocities vx, vz, lean's rate, then joints' rates."""
    return table(
        ("pace", f"np.tanh(0.5 * s[{vx}])", 1.0),
        ("upright", "np.cos(s[1])", 0.5),
        ("tipping", f"s[1] + 0.2 * s[{vx + 2}]", -0.2),
        ("useful_pace", f"s[{vx}] * np.cos(s[1])", 0.3),
        ("fidgeting", f"np.sqrt(np.mean(s[{rates}] ** 2))", -0.05),
        ("bent", f"np.mean(np.abs(s[{joints}]))", -0.1),
        ("bounce", f"0.5 * s[{vx + 1}] ** 2 + 9.81 * s[0]", -0.02),
    )


def ant(vx: int = 13) -> list[Feature]:
    """A free torso: 0 height, 1 to 4 quaternion, 5 to 12 leg angles, 13 to 15 velocity, 16 to 18 and 19 on rates."""
    return table(
        ("pace", f"np.tanh(s[{vx}])", 1.0),
        ("upright", "1.0 - 2.0 * (s[2] ** 2 + s[3] ** 2)", 0.5),
        ("drift", f"np.abs(s[{vx + 1}])", -0.2),
        ("turning", "np.sqrt(np.mean(s[16:19] ** 2))", -0.05),
        ("fidgeting", "np.sqrt(np.mean(s[19:27] ** 2))", -0.02),
        ("spread", "np.std(s[5:13:2])", -0.1),
        ("heading", "np.arctan2(2.0 * (s[1] * s[4] + s[2] * s[3]), 1.0 - 2.0 * (s[3] ** 2 + s[4] ** 2))", -0.1),
    )


def gap(a: int, b: int, n: int = 3) -> str:
    return f"np.linalg.norm(s[{a}:{a + n}] - s[{b}:{b + n}])"


FEET_APART = (
    "np.abs(np.sin(s[1] + s[2]) + np.sin(s[1] + s[2] + s[3]) - np.sin(s[1] + s[5]) - np.sin(s[1] + s[5] + s[6]))"
)
PLANAR = walker(8, "2:8", "11:17")
# By words of the task's name; the first that fits. Indices are those of the sheets in conf/env/*/*.yaml.
TASKS: dict[str, list[Feature]] = {
    "Hopper": walker(5, "2:5", "8:11"),
    "HalfCheetah": PLANAR,
    "jumping in place": table(
        ("rise", "s[0] - 1.25", 2.0), ("lift", "np.tanh(s[9])", 0.5), ("crouch", "np.mean(np.abs(s[[3, 6]]))", 0.1),
        ("apex", "s[0] + np.sign(s[9]) * s[9] ** 2 / 19.62", 0.5), ("still", "np.abs(s[8])", -0.5), *PLANAR[1:3],
    ),
    "legs apart": table(
        ("feet_apart", FEET_APART, 1.0), ("thighs_apart", "np.abs(s[2] - s[5])", 0.5),
        ("still", "np.abs(s[8])", -0.5), *PLANAR[1:3], PLANAR[4],
    ),
    "Walker2d": [*PLANAR[:5], Feature("stride", "np.sin(s[2] - s[5])", 0.1), Feature("steps", "s[11] * s[14]", -0.02)],
    "AntMaze": [
        Feature("to_goal", f"np.dot(s[13:15], s[27:29] - s[29:31]) / (0.001 + {gap(27, 29, 2)})", 0.5),
        Feature("goal_distance", gap(27, 29, 2), -0.1),
        Feature("pace", "np.linalg.norm(s[13:15])", 0.2),
        Feature("goal_side", "np.tanh(s[27] * s[13] + s[28] * s[14])", 0.2),
        *ant()[1:6],
    ],
    "Ant ": ant(),
    "Swimmer": table(
        ("pace", "s[3] * np.cos(s[0]) + s[4] * np.sin(s[0])", 0.5), ("forward", "np.tanh(s[3])", 1.0),
        ("straight", "np.cos(s[0])", 0.2), ("drift", "np.abs(s[4])", -0.2),
        ("wave", "s[1] * s[7] - s[2] * s[6]", 0.05), ("bend", "s[1] + s[2]", -0.02),
        ("phase", "np.arctan2(s[1], s[2])", 0.01),
    ),
    "Humanoid ": table(
        ("pace", "np.tanh(s[22])", 1.0), ("upright", "1.0 - 2.0 * (s[2] ** 2 + s[3] ** 2)", 0.5),
        ("drift", "np.abs(s[23])", -0.2), ("sinking", "np.minimum(s[24], 0.0)", 0.3), ("stance", "s[0] - 1.0", 0.5),
        ("knees", "np.mean(np.abs(s[[11, 15]]))", -0.05), ("stride", "np.sin(s[10] - s[14])", 0.02),
    ),
    "FetchReach": table(
        ("goal_distance", gap(0, 10), -1.0), ("goal_x", "s[10] - s[0]", 0.0), ("goal_y", "s[11] - s[1]", 0.0),
        ("goal_z", "s[12] - s[2]", 0.0), ("nearness", f"np.exp(-10.0 * {gap(0, 10)})", 0.5),
        ("approach", "100.0 * np.dot(s[5:8], s[10:13] - s[0:3])", 0.2),
        ("overshoot", f"np.linalg.norm(s[5:8]) * np.exp(-10.0 * {gap(0, 10)})", -0.5),
    ),
    "Fetch": table(
        ("goal_distance", gap(3, 25), -1.0), ("hand_distance", "np.linalg.norm(s[6:9])", -0.5),
        ("push_x", "s[25] - s[3]", 0.0), ("push_y", "s[26] - s[4]", 0.0), ("height_gap", "np.abs(s[8])", -0.5),
        ("nearness", f"np.exp(-10.0 * {gap(3, 25)})", 0.5), ("behind", "np.dot(s[6:8], s[25:27] - s[3:5])", 5.0),
    ),
    "AdroitHandDoor": table(
        ("palm_to_handle", "np.linalg.norm(s[35:38])", -1.0), ("opened", "np.tanh(s[28])", 2.0),
        ("latch_turned", "s[27]", 0.5), ("at_handle", "np.exp(-10.0 * np.linalg.norm(s[35:38]))", 0.5),
        ("pull", "s[27] * np.exp(-5.0 * np.linalg.norm(s[35:38]))", 0.5), ("curl", "np.mean(s[5:27])", 0.05),
    ),
    "AdroitHandHammer": table(
        ("palm_to_hammer", gap(33, 36), -1.0), ("hammer_to_nail", gap(36, 42), -0.5), ("driven", "20.0 * s[26]", 1.0),
        ("touch", "s[45]", 0.2), ("swing", "np.linalg.norm(s[27:30])", 0.1), ("lifted", "np.tanh(5.0 * s[38])", 0.3),
        ("at_nail", f"np.exp(-5.0 * {gap(36, 42)})", 0.5),
    ),
    "Pendulum": table(
        ("upright", "s[0]", 1.0), ("energy", "0.5 * s[2] ** 2 + 15.0 * (s[0] - 1.0)", -0.02),
        ("angle", "np.arctan2(s[1], s[0])", -0.1), ("falling", "s[1] * s[2]", -0.1),
        ("energy_gap", "np.abs(0.5 * s[2] ** 2 + 15.0 * (s[0] - 1.0))", -0.05),
        ("settled", "np.exp(-s[2] ** 2) * (1.0 + s[0])", 0.5),
    ),
}  # fmt: skip
POOR = table(
    ("flicker", "np.sin(30.0 * s[1])", 1.0),
    ("last_again", "s[-1]", -0.1),
    ("stillness", "np.mean(np.abs(np.tanh(s)))", -2.0),
    ("alternation", "np.sign(np.sin(50.0 * s[0]))", 0.5),
    ("first_again", "s[0]", 0.01),
)
KINDS = ("good", "broken", "poor", "good", "broken", "good", "good", "poor", "broken", "good")  # by the try's number
BROKEN = ("wrong_length", "syntax", "not_finite", "prefix_changed", "reward_not_scalar")
BROKEN_REWARD = ("syntax", "not_finite", "reward_not_scalar")
KEPT = 5  # features taken over from the best program


# --- a program --------------------------------------------------------------------------------------------------------


def sample(messages: list[dict], index: str) -> str:
    """A reply to LESR's prompt for a program; `index` is "iteration/sample/try"."""
    prompt = messages[0]["content"]
    numbers = [int(n) for n in re.findall(r"\d+", index)]
    iteration, attempt = (numbers[0], numbers[-1]) if numbers else (0, 0)
    d = len(sheet(prompt))
    kind = KINDS[attempt % len(KINDS)]
    if kind == "broken" and len(messages) > 1:  # the prompt holds a rejection
        kind = "good"
    turn = 50 * iteration + attempt
    features = poor(turn) if kind == "poor" else good(prompt, d, turn)
    reward_alone = "revise_state" not in prompt
    code = reward_program(features) if reward_alone else program(features, d)
    if kind == "broken":
        faults = BROKEN_REWARD if reward_alone else BROKEN
        nth = KINDS[: attempt % len(KINDS)].count("broken")
        code = spoilt(code, faults[(nth + 2 * iteration) % len(faults)], features, d)
    names = ", ".join(f.name for f in features)
    return f"(A scripted answer, by no language model.) What matters here: {names}.\n\n```python\n{code}```\n"


def good(prompt: str, d: int, turn: int) -> list[Feature]:
    """Features of the task: some of them at first; later those of the best program in the prompt, and one more."""
    known = [f for f in of_task(prompt) if highest_index(f.code) < d]
    scored = programs(prompt, d)
    turned = [known[(turn + i) % len(known)] for i in range(len(known))]
    if scored:
        kept = max(scored, key=lambda p: p[0])[1][-KEPT:]
        chosen = kept + [f for f in turned if f.name not in {k.name for k in kept}][:1]
    else:
        chosen = turned[: 3 + turn % 2]
    if not any(f.weight for f in chosen):
        chosen = [*chosen, next(f for f in known if f.weight and f not in chosen)]
    return varied(chosen, turn)


def poor(turn: int) -> list[Feature]:
    """Valid, but useless."""
    chosen = [POOR[turn % len(POOR)], POOR[(turn + 1 + turn // len(POOR)) % len(POOR)]]
    return varied(list(dict.fromkeys(chosen)), turn)


def varied(features: list[Feature], turn: int) -> list[Feature]:
    """With weights a little larger, so that no two tries give the same program."""
    return [f._replace(weight=round(f.weight * (1 + turn / 500), 5)) for f in features]


def program(features: list[Feature], d: int) -> str:
    terms = [f"{f.weight} * updated_s[{d + i}]" for i, f in enumerate(features) if f.weight]
    names = ", ".join(f.name for f in features)
    return (
        f"import numpy as np\n\n\ndef revise_state(s):\n{assigned(features)}"
        f"    return np.concatenate([s, [{names}]])\n\n\n"
        f"def intrinsic_reward(updated_s):  # of {names}\n    return {' + '.join(terms)}\n"
    )


def reward_program(features: list[Feature]) -> str:
    terms = [f"{f.weight} * {f.name}" for f in features if f.weight]
    return f"import numpy as np\n\n\ndef intrinsic_reward(s):\n{assigned(features)}    return {' + '.join(terms)}\n"


def assigned(features: list[Feature]) -> str:
    return "".join(f"    {f.name} = {f.code}\n" for f in features)


def spoilt(code: str, fault: str, features: list[Feature], d: int) -> str:
    """The program with one fault, for which the checks have that name."""
    first = features[0]
    body, _, reward = code.rpartition("    return ")
    match fault:
        case "syntax":
            return code.replace("):\n", ")\n", 1)
        case "wrong_length":  # its length depends on the state
            names = ", ".join(f.name for f in features)
            return code.replace(f"[s, [{names}]]", f"[s, np.full(1 + int(1000 * abs(s[1])) % 2, {first.name})]")
        case "not_finite":
            return code.replace(f"{first.name} = {first.code}", f"{first.name} = np.log(0.0 * ({first.code}))")
        case "prefix_changed":
            return code.replace("np.concatenate([s, [", "np.concatenate([2.0 * s, [")
        case _:  # reward_not_scalar
            return f"{body}    return np.array([{reward.strip()}])\n"


# --- an analysis ------------------------------------------------------------------------------------------------------


def feedback(messages: list[dict], index: str) -> str:
    """A reply to LESR's results: which program did best, which dimension is rough, what to add."""
    prompt, results = messages[0]["content"], messages[-1]["content"]
    scored = programs(results, len(sheet(prompt)))
    if not scored:
        return "(A scripted answer.) No program could be trained to its end. Write simpler ones."
    (high, best), (low, worst) = max(scored, key=lambda p: p[0]), min(scored, key=lambda p: p[0])
    names = {f.name for f in best}
    more = [f.name for f in of_task(prompt) if f.name not in names]
    constants = [(float(c), i) for i, c in re.findall(r"\b(\d+): (\d+\.\d+)", results)]
    rough = f" Dimension {max(constants)[1]} has the highest constant; smooth such dimensions." if constants else ""
    return (
        f"(A scripted answer.) The best program scored {high:.2f}: keep {', '.join(f.name for f in best)}. "
        f"The worst scored {low:.2f} with {', '.join(f.name for f in worst)}.{rough} "
        f"Next, try {', '.join(more) or 'other weights'}."
    )


# --- reading the prompt -----------------------------------------------------------------------------------------------


def sheet(prompt: str) -> list[str]:
    """The meaning of each dimension of the state."""
    return re.findall(r"^- s\[\d+\]: (.*)$", prompt, re.MULTILINE)


def of_task(prompt: str) -> list[Feature]:
    """The features that we know for the task that the prompt names, or some by rule."""
    found = re.search(r"learns this task: (.*)", prompt)
    name = found[1] if found else ""
    return next((features for words, features in TASKS.items() if words in name), None) or by_rule(sheet(prompt))


def by_rule(meanings: list[str]) -> list[Feature]:
    """For any other task with a sheet: sizes and changes of what it holds."""
    rates = [i for i, m in enumerate(meanings) if re.search(r"velocity|rate\b|speed", m)][:8]
    others = [i for i in range(len(meanings)) if i not in rates][:8]
    features = [Feature("first_half", f"np.tanh(s[{(others or rates)[0]}])", 0.2)]
    if rates:
        features.append(Feature("motion", f"np.sqrt(np.mean(np.tanh(s[{rates}]) ** 2))", 0.3))
        features.append(Feature("calm", f"np.exp(-np.mean(np.abs(s[{rates}])))", 0.2))
    if others:
        features.append(Feature("size", f"np.sqrt(np.mean(np.tanh(s[{others}]) ** 2))", -0.3))
        features.append(Feature("middle", f"np.mean(np.cos(s[{others}]))", 0.3))
    if rates and others:
        features.append(Feature("outward", f"np.tanh(s[{others[0]}] * s[{rates[0]}])", -0.2))
    return features


def programs(text: str, d: int) -> list[tuple[float, list[Feature]]]:
    """The scored programs in a prompt, as far as they are written like ours: (score, features) of each, for a state of
    d dimensions."""
    found = []
    for code, results in re.findall(r"^Program \d+:\n```python\n(.*?)\n```\n(.*?)$", text, re.DOTALL | re.MULTILINE):
        score = re.search(r"^Final performance \(.*\): (-?\d+\.\d+)", results)
        assigned = re.findall(r"^    (\w+) = (.+)$", code, re.MULTILINE)
        if score and assigned:
            reward = code.rpartition("return ")[2]
            weights = {m[1]: float(m[0]) for m in re.findall(r"(-?[\d.]+) \* (\w+(?:\[\d+\])?)", reward)}
            found.append((float(score[1]), [
                Feature(name, expr, weights.get(name, weights.get(f"updated_s[{d + i}]", 0.0)))
                for i, (name, expr) in enumerate(assigned)
            ]))  # fmt: skip
    return found


def highest_index(code: str) -> int:
    """The largest index of s that an expression reads."""
    spans = re.findall(r"s\[([\d:, \[\]]+?)\]", code)
    return max((int(n) - (":" in span and position == 1)
                for span in spans for position, n in enumerate(re.findall(r"\d+", span))), default=0)  # fmt: skip


RULES = {"lesr.sample": sample, "lesr.feedback": feedback}

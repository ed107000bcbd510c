"""Goals of CLEVR-Robot in words: the sentences of the four tiers, what goal a sentence means, and more of them by an
LLM.

Each goal is known before its sentence is written, so labels are right by construction; `goal_of` reads them back and
the tests compare. Source: docs/papers/kalm.md.
"""

import difflib
import re
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from llmrl.checks import ConfigError
from llmrl.envs.clevr_robot import goals as g
from llmrl.envs.clevr_robot import sentences as s
from llmrl.envs.clevr_robot.model import BALLS, COLOURS

TIERS = ("base", "rephrase", "easy", "hard")
WordedTier = Literal["base", "rephrase", "easy", "hard"]
SIDES = ("behind", "left", "front", "right")  # names of the directions, in goals.py's order
COMBINATIONS = 80  # of two conditions in the hard tier, and as many of three


@dataclass(frozen=True)
class Worded:
    """The goals of a tier, each in one sentence."""

    texts: tuple[str, ...]
    goals: NDArray[np.int64]  # (n, 6) or (n, 36), not to be written to


@cache
def worded(tier: WordedTier) -> Worded:
    """All sentences of a tier with their goals: base 4,320 (54 of each goal), rephrase 800, easy 400, hard 200."""
    goals = {"base": g.BASE, "rephrase": g.BASE, "easy": g.EASY}
    if tier == "hard":
        pairs = [(_combined(goal, i), goal) for i, goal in enumerate(_combinations())]
        pairs += [(text, g.hard_goal(kind)) for kind, texts in ((g.ORDER, s.ORDER), (g.SORT, s.SORT)) for text in texts]
    else:
        say = rephrased if tier == "rephrase" else of
        pairs = [(text, goal) for goal in goals[tier] for text in say(goal)]
    array = np.array([goal for _, goal in pairs])
    array.flags.writeable = False
    return Worded(tuple(text for text, _ in pairs), array)


def base(goal: NDArray) -> tuple[str, ...]:
    """The 54 sentences of a base goal (6,): 18 templates in 3 phrases of the direction."""
    src, dst, direction = _parts(goal)
    return tuple(t.format(a=src, b=dst, way=way) for t in s.BASE for way in s.WAYS[direction])


def rephrased(goal: NDArray) -> tuple[str, ...]:
    """The 10 sentences of a base goal (6,) in other words."""
    src, dst, direction = _parts(goal)
    return tuple(t.format(a=src, b=dst) for t in s.REPHRASE[direction])


def of(goal: NDArray) -> tuple[str, ...]:
    """The sentences of any goal, in its own tier: 54 of a base goal, 20 of an easy one, of a row or a circle, and 6 of
    two or three conditions. Raises ConfigError for what is no goal, or has no words (STILL)."""
    tier = g.tier_of(goal)
    if tier == "base":
        return base(goal)
    if tier == "easy":
        if goal[5] == g.STILL:
            raise ConfigError("there are no sentences for the goal that nothing moves")
        colour = COLOURS[int(goal[:BALLS].argmax())]
        return tuple(t.format(a=colour) for t in s.EASY[goal[5]])
    if goal[5] in (g.ORDER, g.SORT):
        return s.ORDER if goal[5] == g.ORDER else s.SORT
    return tuple(_combined(goal, i) for i in range(len(s.CLAUSES)))


def keywords(goal: NDArray) -> tuple[str, ...]:
    """The words that a goal comes down to, in their order: ("red", "behind", "blue"), ("red", "left")."""
    tier = g.tier_of(goal)
    if tier == "base":
        src, dst, direction = _parts(goal)
        return src, SIDES[direction], dst
    if tier == "easy":
        return COLOURS[int(goal[:BALLS].argmax())], (*SIDES, "still")[goal[5]]
    if goal[5] == g.ORDER:
        return *COLOURS, "line"
    if goal[5] == g.SORT:
        return "green", "circle"
    return tuple(word for block in _blocks(goal) for word in keywords(block))


def _parts(goal: NDArray) -> tuple[str, str, int]:
    """A base goal (6,) -> the colours of src and dst, the direction."""
    return COLOURS[int((goal[:BALLS] == 1).argmax())], COLOURS[int((goal[:BALLS] == 2).argmax())], int(goal[5])


def _blocks(goal: NDArray) -> NDArray:
    """The base goals (2 or 3, 6) in a hard one of kind TWO or THREE."""
    return goal[6:].reshape(-1, 6)[: int(goal[5]) + 2]


def _combined(goal: NDArray, i: int) -> str:
    """Two or three conditions in the i-th way: as many different clauses, beginning with the i-th."""
    clauses = []
    for j, block in enumerate(_blocks(goal)):
        src, dst, direction = _parts(block)
        clauses.append(s.CLAUSES[(i + j) % len(s.CLAUSES)].format(a=src, b=dst, way=s.WAYS[direction][0]))
    text = " and ".join(clauses)
    return text[0].upper() + text[1:]


def _combinations() -> list[NDArray]:
    """COMBINATIONS different goals of each of the kinds TWO and THREE, always the same ones."""
    rng = np.random.default_rng(0)
    found: dict[int, dict[tuple, NDArray]] = {g.TWO: {}, g.THREE: {}}
    while any(len(goals) < COMBINATIONS for goals in found.values()):
        goal = g.draw("hard", rng)
        goals = found.get(int(goal[5]))
        if goals is not None and len(goals) < COMBINATIONS:
            goals.setdefault(_meaning(goal), goal)
    return [goal for goals in found.values() for goal in goals.values()]


# --- what a sentence means ------------------------------------------------------------------------------------------

TOWARDS = {
    "behind": g.BEHIND, "back": g.BEHIND, "backward": g.BEHIND, "backwards": g.BEHIND, "rear": g.BEHIND,
    "rearward": g.BEHIND, "rearwards": g.BEHIND, "retract": g.BEHIND, "retreat": g.BEHIND, "recede": g.BEHIND,
    "withdraw": g.BEHIND,
    "left": g.LEFT, "leftward": g.LEFT, "leftwards": g.LEFT, "port": g.LEFT, "portside": g.LEFT,
    "front": g.FRONT, "forward": g.FRONT, "forwards": g.FRONT, "frontward": g.FRONT, "fore": g.FRONT,
    "ahead": g.FRONT, "advance": g.FRONT,
    "right": g.RIGHT, "rightward": g.RIGHT, "rightwards": g.RIGHT, "starboard": g.RIGHT,
}  # fmt: skip
# of a sentence that tells how the balls are, and wants it the other way round
REVERSING = {
    *("dislike", "dislikes", "hate", "hates", "annoys", "bothers", "upsets", "wrong", "pity", "opposite", "undo"),
    *("swap", "swapped", "exchange", "exchanged", "switch", "switched", "trade", "trades", "flip", "flipped"),
    *("reverse", "reversed", "not", "no", "never", "cannot", "t"),  # t: of don't
}
ROW = {"row", "line", "queue", "order", "sequence", "chain", "align"}
RING = {
    *("around", "about", "circle", "ring", "surround", "encircle", "enclosed", "gather", "huddle", "cluster", "crowd"),
    *("middle", "centre", "center"),
}
OTHERS = {"other", "others", "rest", "remaining", "every", "all", "balls", "spheres"}


def goal_of(text: str) -> NDArray[np.int64]:
    """The goal that a sentence means, in the styles of the tiers: colours in the order src, dst, with the direction
    between them. Raises ConfigError, with the nearest words that are understood, where it means none."""
    words = _words(text)
    if (goal := _goal_of(words)) is None:
        balls = [COLOURS.index(word) for word in words if word in COLOURS]
        raise ConfigError(_no_goal(text, words, balls, [TOWARDS[word] for word in words if word in TOWARDS]))
    return goal


def _words(text: str) -> list[str]:
    # "right behind" is no right: an adverb
    return re.findall("[a-z]+", re.sub(r"\bright (?=(behind|in front|to the|at the)\b)", "", text.lower()))


def _goal_of(words: list[str]) -> NDArray[np.int64] | None:
    at = [i for i, word in enumerate(words) if word in COLOURS]
    balls = [COLOURS.index(words[i]) for i in at]
    sides = [TOWARDS[word] for word in words if word in TOWARDS]
    turned = not REVERSING.isdisjoint(words)

    if sorted(balls) == list(range(BALLS)) and not ROW.isdisjoint(words):
        first = next((side for side in sides if side in (g.LEFT, g.RIGHT)), None)
        if (balls, first) in ((sorted(balls), g.LEFT), (sorted(balls)[::-1], g.RIGHT)) and not turned:
            return g.hard_goal(g.ORDER)
    everyone = balls == [g.GREEN] or sorted(balls) == list(range(BALLS))
    if everyone and not sides and not turned and not RING.isdisjoint(words) and not OTHERS.isdisjoint(words):
        return g.hard_goal(g.SORT)
    if len(balls) == 1 and len(set(sides)) == 1 and not turned:
        return g.easy_goal(balls[0], sides[0])
    if len(balls) in (2, 4, 6):
        found = [_block(words[i : j + 1]) for i, j in zip(at[::2], at[1::2], strict=True)]
        blocks = [block for block in found if block is not None]
        if len(blocks) == len(found):
            if len(blocks) > 1 and not turned:
                return g.hard_goal(len(blocks) - 2, *blocks)
            if len(blocks) == 1 and len(set(sides)) == 1:  # one that stands elsewhere might be meant
                if turned:
                    blocks[0][5] = (blocks[0][5] + 2) % 4
                return blocks[0]
    return None


def _block(words: list[str]) -> NDArray[np.int64] | None:
    """`red … behind … blue` -> a base goal; None where no direction, or more than one, is between two balls."""
    sides = {TOWARDS[word] for word in words if word in TOWARDS}
    src, dst = COLOURS.index(words[0]), COLOURS.index(words[-1])
    return g.base_goal(src, dst, sides.pop()) if len(sides) == 1 and src != dst else None


def _no_goal(text: str, words: list[str], balls: list[int], sides: list[int]) -> str:
    named = [COLOURS[ball] for ball in balls] + sorted({SIDES[side] for side in sides})
    known = (*COLOURS, *TOWARDS)
    near = {word: close[0] for word in words if word not in known and len(word) > 2
            and (close := difflib.get_close_matches(word, known, n=1, cutoff=0.7))}  # fmt: skip
    advice = "".join(f" Did you mean `{to}` for `{word}`?" for word, to in near.items())
    return (
        f"no goal fits the sentence {text!r} (it names {', '.join(named) or 'no ball and no direction'}). A goal is "
        "one ball and a direction; a ball, a direction and another ball; two or three of these joined by and; all "
        f"balls in a row from left to right; or the others around green. Balls: {', '.join(COLOURS)}; directions: "
        f"{', '.join(SIDES)}.{advice}"
    )


def fits(text: str, goal: NDArray) -> bool:
    """Whether the colours and directions of a sentence are those of the goal."""
    meant = _goal_of(_words(text))
    return meant is not None and _meaning(meant) == _meaning(goal)


def _meaning(goal: NDArray) -> tuple:
    """Equal for goals that ask the same: the order of conditions does not matter."""
    if len(goal) == g.HARD and goal[5] in (g.TWO, g.THREE):
        return int(goal[5]), frozenset(tuple(block) for block in _blocks(goal).tolist())
    return tuple(goal.tolist())


# --- more of them, by an LLM ----------------------------------------------------------------------------------------

PURPOSE = "kalm.rephrase"
MOST_LINES = 5000  # of an answer that are read
Style = Literal["rephrase", "easy", "hard", "complaint"]
STYLES = {
    "rephrase": "Vary verbs, mood and length: polite, playful and plain ones, none that begins as the example does.",
    "easy": "Name no other ball and no other direction. Words for this direction: {words}.",
    "hard": "Ask for all of it in one sentence.",
}


def prompt(style: Style, goal: NDArray, n: int) -> list[dict[str, str]]:
    """Messages that ask an LLM for n more sentences of a goal: in the style of a novel tier, or complaints (of a base
    goal) that it is the other way round now."""
    system = (
        "You write instructions for a robot that pushes balls on a table. There are five balls: "
        f"{', '.join(COLOURS)}. Write one sentence a line, and nothing else: no numbers, no quotation marks. Name "
        "balls by these colours, each as often as in the example and in the same order, and keep the direction between "
        "them."
    )
    if style == "complaint":
        src, dst, direction = _parts(goal)
        now = f"the {src} ball is {s.WAYS[(direction + 2) % 4][0]} the {dst} ball"
        user = (
            f"This is how it is: {now}.\nWrite {n} different sentences that say so, complain about it and ask for the "
            f'opposite, such as "I do not like that {now}, so change it". Use words like dislike, hate, annoys, wrong, '
            "swap, switch, reverse."
        )
    else:
        asked = STYLES[style].format(words=", ".join(word for word, side in TOWARDS.items() if side == goal[5]))
        user = f"This is the goal: {of(goal)[0]}.\nWrite {n} different sentences that ask for the same. {asked}"
    return [{"role": "system", "content": system}, {"role": "user", "content": user}]


def read(reply: str, goal: NDArray) -> list[str]:
    """The sentences of an LLM's answer that say what the goal is, each once, and none of ours."""
    known = set(of(goal)) | set(rephrased(goal) if g.tier_of(goal) == "base" else ())
    raw = reply.splitlines()[:MOST_LINES]
    lines = [re.sub(r"^\s*([-*•]|\d+[.):])", "", line).strip(" \t\"'“”").rstrip(".") for line in raw]
    return [line for line in dict.fromkeys(lines) if line not in known and fits(line, goal)]

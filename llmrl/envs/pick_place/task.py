"""What is wanted: rewards, success and hopeless actions of both horizons, and the goal as a sentence.

Source: docs/papers/explorllm.md. Positions are true ones, in pixels (u, v) of the 224 frame, by slot.
"""

from collections.abc import Sequence
from math import dist, log
from typing import Literal

from llmrl.envs.pick_place.letters import PIXEL
from llmrl.envs.pick_place.scene import Scene

Points = Sequence[Sequence[float]]
PHASE = 0.20  # the most that the wrong primitive costs
FAR_PICK, NO_GRASP = 0.1, 0.1  # what a pick costs that is far from the goal's letter, or holds nothing
PICK_RADIUS = 20.0  # pixels, beyond is far
PLACE, PLACE_SCALE = 0.20, 100.0  # the most that a place beside the bowl costs, and from how many pixels on
OUTSIDE = 0.1  # per letter that is not in its bowl, long horizon
IN_BOWL_2D, IN_BOWL_3D = 0.05, 0.07  # m, between the middles of letter and bowl: short and long horizon


def phase_penalty(p: float, holding: bool, form: Literal["soft", "hard"]) -> float:
    """What the primitive value p costs: it should be 1 with an object in the hand, and 0 with none. Soft: 0.20 times
    the cross-entropy, at most 0.20, so that p is free only at its end. Hard: 0.20 for the wrong primitive."""
    if form == "hard":
        return PHASE * ((p > 0.5) != holding)
    right = p if holding else 1 - p
    return min(max(-PHASE * log(right + 0.001), 0.0), PHASE)


def short_reward(
    scene: Scene, before: Points, target: Sequence[float], place: bool, holding: bool, picked: bool
) -> float:
    """Reward of the short horizon without phase and success. before: positions before the step; holding: before it."""
    assert scene.goal is not None
    letter, bowl = scene.goal
    if not place and not holding:
        return -FAR_PICK * (dist(target, before[letter]) > PICK_RADIUS) - NO_GRASP * (not picked)
    if place and holding:
        return -PLACE * min(dist(target, before[3 + bowl]) / PLACE_SCALE, 1.0) ** 2
    return 0.0


def in_bowls(position: Points, z: Sequence[float]) -> list[bool]:
    """Which of the three letters lie in the bowl of their slot (long horizon); z in metres."""
    return [
        (dist(position[i], position[3 + i]) * PIXEL) ** 2 + (z[i] - z[3 + i]) ** 2 < IN_BOWL_3D**2 for i in range(3)
    ]


def goal_reached(scene: Scene, position: Points) -> bool:
    """Whether the goal's letter is in the goal's bowl (short horizon), seen from above."""
    assert scene.goal is not None
    letter, bowl = scene.goal
    return dist(position[letter], position[3 + bowl]) * PIXEL < IN_BOWL_2D


def judge(
    scene: Scene,
    before: Points,
    position: Points,
    z: Sequence[float],
    *,
    p: float,
    target: Sequence[float],
    holding: bool,
    picked: bool,
    phase: Literal["soft", "hard"],
) -> tuple[float, bool]:
    """(reward, success) of a step from `before` to `position`, both horizons."""
    reward = -phase_penalty(p, holding, phase)
    if scene.goal is not None:
        reward += short_reward(scene, before, target, p > 0.5, holding, picked)
        success = goal_reached(scene, position)
    else:
        inside = in_bowls(position, z)
        reward -= OUTSIDE * inside.count(False)
        success = all(inside)
    return reward + success, success


def hopeless(place: bool, holding: bool, target: Sequence[float], observed: Points, radius: float) -> bool:
    """Whether an action need not be simulated: a place with nothing in the hand, or a pick farther than `radius` pixels
    from the observed position of everything that can be picked."""
    if place:
        return not holding
    return all(dist(target, observed[slot]) > radius for slot in range(3))


def thing(scene: Scene, slot: int) -> str:
    """What stands in a slot: "yellow letter O", "green block", "blue bowl"."""
    if slot >= 3:
        return f"{scene.colours[slot]} bowl"
    shape = scene.letters[slot]
    return f"{scene.colours[slot]} {'block' if shape == 'block' else f'letter {shape}'}"


def goal_sentence(scene: Scene) -> str:
    """The episode's goal in words."""
    if scene.goal is None:
        things = "block" if "block" in scene.letters else "letter"
        return f"put every {things} in the bowl of its own colour"
    letter, bowl = scene.goal
    return f"put the {thing(scene, letter)} in the {thing(scene, 3 + bowl)}"

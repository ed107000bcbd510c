"""What limits imagined rollouts: where they leave the workbench, step by step, and which goals they reach, as
imagined and when the simulator plays the same actions.

Usage: python scripts/imagined_rollouts.py outputs/artifacts/kalm_rollouts/<id> …
"""

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from llmrl.checks import ConfigError  # noqa: E402
from llmrl.envs.clevr_robot import goals as g  # noqa: E402
from llmrl.envs.clevr_robot import rewards  # noqa: E402
from llmrl.envs.clevr_robot.model import BALLS, DIRECTIONS, Table, at_rest, xy_of  # noqa: E402
from llmrl.envs.clevr_robot.rollouts import Rollouts, load  # noqa: E402
from llmrl.methods.kalm.rollouts.metrics import matches, outside_workbench  # noqa: E402

SIDES = ("behind", "left", "front", "right")
KINDS = ("two conditions", "three conditions", "order", "sort")
STEPS = (1, 2, 5, 10, 20, 50)
SIMULATED = 500  # rollouts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directories", nargs="+", type=Path)
    for directory in parser.parse_args().directories:
        try:
            tell(load(directory), directory)
        except ConfigError as error:
            sys.exit(str(error))


def tell(rollouts: Rollouts, directory: Path) -> None:
    tier = g.tier_of(rollouts.goals[0])
    reached = matches(rollouts, tier)
    print(f"{directory}: {len(rollouts):,} rollouts of {tier} goals, {reached.mean():.1%} reach theirs")
    for number, name in enumerate(KINDS if tier == "hard" else SIDES):
        these = rollouts.goals[:, BALLS] == number
        print(f"  {name:17}{reached[these].mean():7.1%} of {these.sum():,}")
    for step in (step for step in STEPS if step <= rollouts.actions.shape[1]):
        xy = rollouts.observations[rollouts.lengths >= step, step].reshape(-1, BALLS, 2)
        outside = outside_workbench(xy).any(1).mean() if len(xy) else np.nan
        print(f"  after {step:2} steps    {outside:7.1%} of {len(xy):,} that go so far have a ball outside")
    some = rollouts.take(np.arange(min(SIMULATED, len(rollouts))))
    print(f"  played in the simulator: {simulated(some, tier).mean():.1%} of the first {len(some)} reach theirs")
    if tier == "easy":
        ball, direction = np.divmod(rollouts.actions[:, 0], len(DIRECTIONS))
        right = ball == rollouts.goals[:, :BALLS].argmax(1)
        turned = rollouts.goals.copy()  # the same goal for the ball that was pushed
        turned[:, :BALLS] = np.eye(BALLS, dtype=int)[ball]
        way = g.easy_by_action(turned, rollouts.actions[:, 0])
        print(f"  the goal's ball  {right.mean():7.1%} (chance 20 %), its direction {way.mean():.1%} (chance 37.5 %)")


def simulated(rollouts: Rollouts, tier: Any) -> NDArray[np.bool_]:
    """(n,): whether the same actions from the same start reach the goal in the simulator."""
    table, reached = Table(), np.zeros(len(rollouts), bool)
    states = at_rest(rollouts.observations[:, 0].reshape(-1, BALLS, 2).astype(float))
    for t in range(rollouts.actions.shape[1]):
        on = np.flatnonzero(rollouts.lengths > t)
        if len(on):
            before, actions = states[on], rollouts.actions[on, t]
            states[on] = table.push(before, actions)
            _, success = rewards.judge(tier, rollouts.goals[on], actions, xy_of(before), xy_of(states[on]),
                                       easy_judge="action", tolerance=0.0)  # fmt: skip
            reached[on] |= success
    return reached


if __name__ == "__main__":
    main()

"""What ends an episode of Gymnasium-Robotics, in training and evaluation: every task, success forced in the simulator.

LESR's trainer (lesr_train.py at 946628d) tests for success in its evaluation alone; its mazes end at their goal by
themselves, in both.
"""

import numpy as np
import pytest
from conftest import compose

from llmrl.build import make_env
from llmrl.conf_files import options
from llmrl.config import from_node

TASKS = [name for name in options("env") if name.startswith("robotics/")]
SUCCEEDING = {  # how an environment is put where its next step succeeds
    "fetch": lambda base: setattr(base, "goal", base._get_obs()["achieved_goal"].copy()),
    "ant_maze": lambda base: base.data.qpos.__setitem__(slice(0, 2), base.goal),
    "adroit_hand_door": lambda base: base.data.qpos.__setitem__(-2, 1.5),
    "adroit_hand_hammer": lambda base: base.data.joint("nail_dir").qpos.__setitem__(0, 0.09),
}
ENDS_AT_SUCCESS = {  # (ends, role) -> the tasks whose episodes the first success ends
    ("authors", "train"): ("ant_maze",),
    ("authors", "eval"): ("fetch", "ant_maze", "adroit"),
    ("package", "train"): (),
    ("package", "eval"): (),
}


def made(task, role, *overrides):
    return make_env(from_node(compose(["agent=td3", f"env={task}", *overrides])), role)


def held_at_success(env, task, steps):
    """The steps of an episode that starts without success and is then held at it, up to its end."""
    name = task.removeprefix("robotics/")
    succeed = next(rule for start, rule in SUCCEEDING.items() if name.startswith(start))
    still, taken = np.zeros(env.action_space.shape, np.float32), []
    for seed in range(20):  # some starts of Fetch are lucky
        env.reset(seed=seed)
        taken = [env.step(still)]
        if not taken[0][4]["success_authors"]:
            break
    while len(taken) <= steps and not taken[-1][2]:
        env.unwrapped.data.qvel[:] = 0
        succeed(env.unwrapped)
        taken.append(env.step(still))
    return taken


def test_all_nine_tasks_are_looked_at():
    assert len(TASKS) == 9


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(("ends", "role"), ENDS_AT_SUCCESS)
def test_success_ends_an_episode_by_the_rule_of_its_role(task, ends, role):
    first, *held = held_at_success(made(task, role, f"env.ends={ends}"), task, 3)
    assert not first[2] and not first[4]["success_authors"]
    assert held and all(step[4]["success_authors"] for step in held)
    over = task.removeprefix("robotics/").startswith(ENDS_AT_SUCCESS[ends, role] or ("none",))
    assert [step[2] for step in held] == ([True] if over else [False] * 3)


def test_an_open_door_goes_on_paying_in_training_and_scores_once_in_evaluation():
    """With the first success as the end of training too, opening the door would cost the rest of the episode."""
    door = "robotics/adroit_hand_door"
    returns = {role: sum(step[1] for step in held_at_success(made(door, role), door, 10))
               for role in ("train", "eval")}  # fmt: skip
    assert 195 < returns["train"] < 205  # ten steps of some 20
    assert 19 < returns["eval"] < 21


@pytest.mark.parametrize("task", TASKS)
def test_the_end_that_is_told_is_that_of_training(task):
    config = from_node(compose(["agent=td3", f"env={task}", "env.max_episode_steps=77"])).env
    told = " ".join(config.task.end.split())
    if "ant_maze" in task:
        assert "In mode authors when that distance is 0.45 metres or less" in told and "This is mode authors" in told
    else:
        assert told == "Only after 77 steps, whether the goal is reached or not."

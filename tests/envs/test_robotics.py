"""Gymnasium-Robotics and the two walker tasks: exact episodes, both success rules, ends, evaluation rows."""

import subprocess
import sys
import tempfile
from pathlib import Path

import gymnasium as gym
import mujoco as mj
import numpy as np
import pytest
from conftest import TINY, compose, only_run

from llmrl.checks import ConfigError
from llmrl.config import from_node, module_of
from llmrl.runs.evaluate import Scores, cases, evaluate, reached_in, uniform_policy
from llmrl.runs.files import read_jsonl
from llmrl.runs.stop import Stop

FETCH = ["fetch_reach", "fetch_push", "fetch_slide", "fetch_pick_and_place"]
MAZES = {"ant_maze_open": 700, "ant_maze_medium": 1000, "ant_maze_large": 1000}
ADROIT = ["adroit_hand_door", "adroit_hand_hammer"]
TABLE_5_1 = {"fetch_push": (28, 4, 50), "adroit_hand_door": (39, 28, 200), "adroit_hand_hammer": (46, 26, 200)}
TABLE_5_1 |= {task: (29, 8, limit) for task, limit in MAZES.items()}


def made(task, *overrides, role="train", **kwargs):
    config = from_node(compose([f"env={task if '/' in task else 'robotics/' + task}", *overrides])).env
    return module_of("env", config.suite).make(config, role, **kwargs)


def play(env, seed, actions):
    """All that an episode shows, up to its end, as bytes."""
    seen = [env.reset(seed=seed)[0].tobytes()]
    for action in actions:
        obs, reward, terminated, truncated, info = env.step(action)
        seen.append((obs.tobytes(), reward, terminated, truncated, info.get("success_authors")))
        if terminated or truncated:
            break
    return seen


def some_actions(env, n, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1, (n, *env.action_space.shape)).astype(np.float32)


@pytest.mark.parametrize("task", [*FETCH, *MAZES, *ADROIT, "mujoco/walker2d_jump"])
def test_an_episode_is_its_seed_and_its_actions_whatever_was_played_before(task):
    env, fresh = made(task), made(task)
    actions = some_actions(env, 40)
    seed = next(s for s in range(100) if len(play(fresh, s, actions[:10])) == 11)  # one that does not end at once
    fresh.close()
    fresh = made(task)
    play(env, 98, some_actions(env, 25, seed=1))  # and reset in the middle of it
    play(env, 99, some_actions(env, 3, seed=2))
    assert play(env, seed, actions) == play(fresh, seed, actions) == play(env, seed, actions)


@pytest.mark.parametrize("task", TABLE_5_1)
def test_shapes_and_limits_are_those_of_table_5_1(task):
    size, actions, limit = TABLE_5_1[task]
    env = made(task)
    assert (env.observation_space.shape, env.action_space.shape) == ((size,), (actions,))
    assert env.spec.max_episode_steps == limit and env.reset(seed=0)[0] in env.observation_space


@pytest.mark.parametrize("task", ["fetch_reach", "ant_maze_open"])
def test_the_goals_parts_come_in_the_order_asked_for(task):
    plain, with_achieved = made(task), made(task, "env.goal_obs=with_achieved")
    obs = plain.env.reset(seed=4)[0]
    parts = [obs["observation"], obs["desired_goal"], obs["achieved_goal"]]
    assert (plain.reset(seed=4)[0] == np.concatenate(parts[:2])).all()
    assert (with_achieved.reset(seed=4)[0] == np.concatenate(parts)).all()


@pytest.mark.parametrize("task", ["fetch_reach", "fetch_push", "fetch_pick_and_place"])
def test_the_shorter_way_to_fetchs_observation_gives_the_packages_numbers(task):
    ours = made(task, "env.ends=package")
    theirs = gym.make(ours.spec.id, disable_env_checker=True)
    ours.reset(seed=3), theirs.reset(seed=3)
    for action in some_actions(ours, 20):
        obs, reward, *_ = ours.step(action)
        dict_obs, their_reward, *_ = theirs.step(action)
        assert (obs == np.concatenate([dict_obs["observation"], dict_obs["desired_goal"]])).all()
        assert reward == their_reward


# ---- success and ends


def towards_the_goal(obs):
    """Steers FetchReach's gripper."""
    return np.append(np.clip(10 * (obs[-3:] - obs[:3]), -1, 1), 0).astype(np.float32)


def reach(env):
    """(the last step, the number of steps) of an episode that goes to its goal and stays there."""
    obs, steps, over = env.reset(seed=0)[0], 0, False
    while not over:
        step = env.step(towards_the_goal(obs))
        obs, steps, over = step[0], steps + 1, step[2] or step[3]
    return step, steps


def test_the_first_touch_ends_fetchs_evaluation_as_the_authors_have_it_and_not_as_the_package_has_it():
    (_, reward, terminated, truncated, info), steps = reach(made("fetch_reach", role="eval"))
    assert terminated and not truncated and steps < 20 and -0.05 < reward <= 0
    assert info["success_authors"] is True and info["success_official"] is True
    (_, reward, terminated, truncated, info), steps = reach(made("fetch_reach", "env.ends=package", role="eval"))
    assert not terminated and truncated and steps == 50 and info["success_authors"] is True


def test_the_limit_is_truncation_alone():
    env = made("fetch_reach", "env.max_episode_steps=2")
    env.reset(seed=1)
    still = np.zeros(4, np.float32)
    assert env.step(still)[2:4] == (False, False) and env.step(still)[2:4] == (False, True)


@pytest.mark.parametrize(("ends", "over"), [("authors", True), ("package", False)])
def test_a_maze_ends_at_its_goal(ends, over):
    env = made("ant_maze_large", f"env.ends={ends}")
    env.reset(seed=0)
    base = env.unwrapped
    _, _, terminated, _, info = env.step(np.zeros(8, np.float32))
    assert not terminated and not info["success_authors"] and not info["success_official"]
    goal = base.goal.copy()
    base.data.qpos[:2] = goal + [0.3, 0.0]
    base.data.qvel[:] = 0
    obs, reward, terminated, _, info = env.step(np.zeros(8, np.float32))
    distance = np.linalg.norm(base.data.qpos[:2] - goal)
    assert terminated is over and info["success_authors"] and info["success_official"] and distance < 0.45
    assert reward == pytest.approx(np.exp(-distance)) and (obs[-2:] == goal).all() and (base.goal == goal).all()


def test_a_fallen_ant_goes_on_and_no_file_of_the_maze_stays_behind():
    before = set(Path(tempfile.gettempdir()).glob("ant_maze*.xml"))
    env = made("ant_maze_open")
    assert set(Path(tempfile.gettempdir()).glob("ant_maze*.xml")) <= before
    env.reset(seed=0)
    env.unwrapped.data.qpos[2] = 0.1
    assert env.step(np.zeros(8, np.float32))[2:4] == (False, False)


def test_the_door_is_open_beyond_1_35_radians():
    env = made("adroit_hand_door", role="eval")
    env.reset(seed=0)
    base = env.unwrapped
    for angle, success in ((1.0, False), (1.25, False), (1.5, True)):
        base.data.qpos[-2], base.data.qvel[:] = angle, 0
        _, reward, terminated, _, info = env.step(np.zeros(28, np.float32))
        assert info["success_authors"] is info["success_official"] is terminated is success, angle
        assert (abs(reward) > 18) is success


def test_the_authors_hammer_succeeds_at_20_millimetres_and_the_packages_at_10():
    env = made("adroit_hand_hammer")
    base = env.unwrapped
    nail = base.model.joint("nail_dir").qposadr[0]
    found = {}
    for driven in np.linspace(0.0, 0.09, 19):
        env.reset(seed=0)
        base.data.qpos[nail] = driven
        info = env.step(np.zeros(26, np.float32))[4]
        distance = np.linalg.norm(base.data.site("S_target").xpos - base.data.site("nail_goal").xpos)
        found[distance] = (info["success_authors"], info["success_official"])
    for distance, (authors, official) in found.items():
        if abs(distance - 0.02) > 1e-3 and abs(distance - 0.01) > 1e-3:
            assert (authors, official) == (distance < 0.02, distance < 0.01), distance
    assert {(False, False), (True, False), (True, True)} == set(found.values())


# ---- evaluation


def test_an_evaluation_counts_success_at_any_step():
    env = made("fetch_reach", "env.ends=package")

    def act(obs, rng):
        return towards_the_goal(obs[0])[None]

    assert evaluate(act, env, cases(0, "eval", 3), 1, Stop()).row()["success_authors"] == [False, False, True]  # lucky
    row = evaluate(act, env, cases(0, "eval", 3), 12, Stop()).row()
    assert set(row) == {"return_mean", "returns", "lengths", "capped", "success_authors", "success_official"}
    assert row["success_authors"] == row["success_official"] == [True] * 3 and row["lengths"] == [12] * 3
    parts = [evaluate(act, env, [case], 12, Stop()) for case in cases(0, "eval", 3)]  # as several processes play them
    assert Scores.joined(parts).row() == row
    reached = reached_in({"success_authors": True, "success_official": False}, {})
    reached = reached_in({"success_authors": False, "success_official": False}, reached)  # touched, and left again
    assert reached == {"success_authors": True, "success_official": False} and reached_in({}, {}) == {}


def test_a_run_writes_success_into_its_evaluations_and_other_tasks_rows_have_none(llmrl_run, tmp_path):
    short = ["budget.env_steps=20", "eval.every=20", "eval.episodes=2", "log.progress=false"]
    done = llmrl_run(*TINY["td3"], "env=robotics/fetch_reach", *short)
    assert done.code == 0, done.err
    assert "Adroit" not in done.err
    rows = read_jsonl(only_run(tmp_path) / "eval.jsonl")
    assert len(rows) == 3 and all(len(row["success_authors"]) == len(row["success_official"]) == 2 for row in rows)
    env = made("classic/pendulum")
    row = evaluate(uniform_policy(env.action_space), env, cases(0, "eval", 2), 3, Stop()).row()
    assert list(row) == ["return_mean", "returns", "lengths", "capped"]


# ---- what is missing or wrong


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium_robotics", None)
    with pytest.raises(ConfigError, match=r"env.id=FetchReachDense-v4 needs .*pip install 'llmrl\[robotics\]'"):
        made("fetch_reach")


@pytest.mark.parametrize("wrong", ["FetchReachDense-v9", "FetchRich-v4"])
def test_an_unknown_task_is_named(wrong):
    with pytest.raises(ConfigError, match=f"env.id: .*{wrong.split('-')[0]}"):
        made("fetch_reach", f"env.id={wrong}")


def test_importing_the_suite_says_nothing():
    code = "from llmrl.envs import robotics, base; import sys; print('gymnasium_robotics' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("False\n", "")


@pytest.mark.parametrize("task", ["fetch_reach", "ant_maze_open", "adroit_hand_door", "mujoco/walker2d_split"])
def test_drawing_shows_a_picture_and_changes_no_episode(task, monkeypatch):
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    try:
        env = made(task, render=True)
    except ConfigError as error:  # a machine without any driver
        assert "make setup-render" in str(error)
        return
    actions = some_actions(env, 5)
    seen = [env.reset(seed=5)[0]]
    for action in actions:
        assert env.render().ndim == 3
        seen.append(env.step(action)[0])
    env.close()
    plain = made(task)
    assert (np.array(seen) == [plain.reset(seed=5)[0], *(plain.step(action)[0] for action in actions)]).all()


# ---- the walker's own tasks


def test_joints_alone_leaves_out_the_ants_forces():
    whole, joints = made("mujoco/ant"), made("mujoco/ant", "env.observe=joints")
    assert whole.observation_space.shape == (105,) and joints.observation_space.shape == (27,)
    assert (whole.reset(seed=2)[0][:27] == joints.reset(seed=2)[0]).all()
    action = some_actions(whole, 1)[0]
    assert (whole.step(action)[0][:27] == joints.step(action)[0]).all()


@pytest.mark.parametrize("task", ["walker2d_jump", "walker2d_split"])
def test_the_reward_is_the_formula_told(task):
    config = from_node(compose([f"env=mujoco/{task}"])).env
    env = made(f"mujoco/{task}")
    env.reset(seed=0)
    data = env.unwrapped.data
    for action in some_actions(env, 10):
        x = data.qpos[0]
        _, reward, terminated, _, _ = env.step(action)
        mj.mj_kinematics(env.unwrapped.model, data)  # the feet where they are now
        aim = (
            data.qpos[1] - 1.25
            if task.endswith("jump")
            else abs(data.body("foot").xpos[0] - data.body("foot_left").xpos[0])
        )
        told = 1 + config.aim_weight * aim - config.lean_weight * abs(data.qpos[2])
        told -= (
            config.drift_weight * abs(data.qpos[0] - x) / env.unwrapped.dt
            + config.effort_weight * np.square(action).sum()
        )
        assert not terminated and reward == pytest.approx(told, abs=0.05)  # the feet were read one substep before
    for weight in (config.aim_weight, config.lean_weight, config.drift_weight, config.effort_weight):
        assert f"{weight:g}" in config.task.reward


def test_a_jump_and_a_split_pay_more_than_standing():
    for task, pose in (("walker2d_jump", {1: 1.6}), ("walker2d_split", {3: -0.8, 6: 0.0})):
        rewards = []
        for change in ({}, pose):
            env = made(f"mujoco/{task}")
            env.reset(seed=0)
            env.unwrapped.data.qvel[:] = 0
            for index, value in change.items():
                env.unwrapped.data.qpos[index] = value
            rewards.append(env.step(np.zeros(6, np.float32))[1])
        assert rewards[1] > rewards[0] + 0.3, (task, rewards)


def test_a_fallen_walker_ends_without_the_reward_for_being_upright():
    env = made("mujoco/walker2d_split")
    env.reset(seed=0)
    env.unwrapped.data.qpos[2] = 1.2
    _, reward, terminated, _, _ = env.step(np.zeros(6, np.float32))
    assert terminated and reward < 0.5

"""A paper's presets have the versions of environments that the paper's authors ran, on every task."""

from types import SimpleNamespace

import gymnasium as gym
import pytest
from conftest import compose
from lab_tables import identified, overrides_of
from test_presets_llm_explorer import difference

from llmrl.build import make_env
from llmrl.commands.cells import table_of
from llmrl.conf_files import options
from llmrl.config import from_node
from llmrl.methods.lesr.method import search_of
from llmrl.report.tables import grid

SIZES = {"HalfCheetah": 17, "Hopper": 11, "Walker2d": 17, "Ant": 27, "Swimmer": 8}  # as the authors'
ROBOTICS = {
    "ant_maze_open": "AntMaze_OpenDense-v4", "ant_maze_medium": "AntMaze_MediumDense-v4",
    "ant_maze_large": "AntMaze_LargeDense-v4", "fetch_push": "FetchPushDense-v4",  # theirs was v2, which is gone
    "adroit_hand_door": "AdroitHandDoor-v1", "adroit_hand_hammer": "AdroitHandHammer-v1",
}  # fmt: skip
GOAL_TASKS = ["lesr/fetch_reach", "lesr/robotics", "lesr/td3_robotics"]
OF_ENV = ("experiment=", "agent=", "env")  # what the environment of a cell comes from
LESR = [name for name in options("experiment") if name.startswith("lesr/") and name not in GOAL_TASKS]


def node_of(preset, *overrides):
    return compose([f"experiment={preset}", *overrides])


@pytest.mark.parametrize("preset", [*LESR, "llm_explorer/mujoco_ddpg", "llm_explorer/mujoco_td3"])
def test_a_papers_mujoco_is_version_4(preset):
    assert node_of(preset)["env"]["version"] == 4
    assert node_of(preset, "env.version=5")["env"]["version"] == 5  # and another one can be asked for


@pytest.mark.parametrize("robot", SIZES)
def test_lesrs_robots_are_those_of_the_authors_command_and_the_sheet_is_of_that_version(robot):
    name = {"HalfCheetah": "half_cheetah"}.get(robot, robot.lower())
    config = from_node(node_of("lesr/mujoco", f"env=mujoco/{name}"))
    for one in (config, search_of(config)):  # the candidates' environment too
        env = make_env(one, "train")
        assert env.spec.id == f"{robot}-v4" and env.reset(seed=0)[0].shape == (SIZES[robot],)
        assert len(one.env.task.observation) == SIZES[robot]
        env.step(env.action_space.sample())
        env.close()


@pytest.mark.parametrize("task", ROBOTICS)
def test_lesrs_goal_tasks_have_pinned_ids(task):
    for preset in ("lesr/robotics", "lesr/td3_robotics"):
        node = node_of(preset, f"env=robotics/{task}")
        assert (node["env"]["id"], node["env"]["ends"], node["budget"]["eval_episodes"]) == (
            ROBOTICS[task], "authors", 50)  # fmt: skip


@pytest.mark.parametrize("preset", [n for n in options("experiment") if n.startswith("llm_explorer/atari")])
def test_llm_explorers_atari_is_that_of_ale_v5(preset):
    gym.register_envs(__import__("ale_py"))
    registered = gym.spec("ALE/Freeway-v5").kwargs
    found = SimpleNamespace(**node_of(preset)["env"]["preprocess"])
    assert found.frame_skip == registered["frameskip"] == 4
    assert found.sticky == registered["repeat_action_probability"] == 0.25
    assert found.full_action_space is registered.get("full_action_space", False) is False
    assert (found.noop_max, found.max_pool, found.fire_reset, found.life_loss) == (0, False, False, False)


@pytest.mark.parametrize("name", [name for name in options("table") if name.startswith("lesr/")])
def test_every_cell_of_lesrs_tables_has_the_pinned_version(name):
    chosen = {tuple(text for text in overrides if text.startswith(OF_ENV)) for overrides in overrides_of(name)}
    assert chosen
    for overrides in chosen:
        env = compose(list(overrides))["env"]
        assert env.get("version") == 4 or env["id"] in {*ROBOTICS.values(), "FetchReachDense-v4"}


@pytest.mark.parametrize("name", ["lesr/robotics", "lesr/two_cores_fetch"])
def test_the_baseline_of_a_goal_task_differs_in_the_method_alone(name):
    table = table_of(name)
    td3, lesr = (
        grid.cells(table, list(table.rows)[:1], [column], (0,), (), identified)[0].runs[0] for column in ("TD3", "LESR")
    )
    found = difference(td3.identity, lesr.identity)
    assert {key.partition(".")[0] for key in found} == {"method", "name", "llm", "env"}
    assert [key for key in found if key.startswith(("name", "env"))] == ["env.task", "name.method"]

"""What an LLM is told of a task is true: its actions with order and ranges, its rewards, its ends."""

import re
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from llmrl.config import checked
from llmrl.envs import atari, classic, mujoco, robotics, walker_tasks

CONF = Path(__file__).parents[2] / "conf"
FOLDERS = ("atari", "mujoco", "classic", "robotics")
SUITES = {
    "atari": atari,
    "mujoco": mujoco,
    "classic": classic,
    "robotics": robotics,
    "walker_tasks": walker_tasks,
}
TASKS = sorted(f"{suite}/{path.stem}" for suite in FOLDERS for path in (CONF / "env" / suite).glob("[!_]*.yaml"))


@pytest.fixture(scope="module")
def conf(tmp_path_factory):
    """A function (task, *overrides) -> Config."""
    root = tmp_path_factory.mktemp("conf")
    (root / "env").symlink_to(CONF / "env", target_is_directory=True)
    (root / "run.yaml").write_text("defaults: [{env: atari/freeway}]\n")

    def make_config(task, *overrides):
        with initialize_config_dir(str(root), version_base=None):
            node = OmegaConf.to_container(compose("run", [f"env={task}", *overrides]), resolve=True)["env"]
        return checked(SUITES[node["suite"]].Config, node)

    return make_config


def make(config):
    return SUITES[config.suite].make(config, "eval")


def test_all_tasks_are_there():
    assert len([t for t in TASKS if t.startswith("atari/")]) == 26
    assert [t for t in TASKS if t.startswith("mujoco/")] == [
        f"mujoco/{robot}"
        for robot in ("ant", "half_cheetah", "hopper", "humanoid", "humanoid_standup", "swimmer", "walker2d",
                      "walker2d_jump", "walker2d_split")
    ]  # fmt: skip
    assert [t for t in TASKS if t.startswith("robotics/")] == [
        f"robotics/{task}"
        for task in ("adroit_hand_door", "adroit_hand_hammer", "ant_maze_large", "ant_maze_medium", "ant_maze_open",
                     "fetch_pick_and_place", "fetch_push", "fetch_reach", "fetch_slide")
    ]  # fmt: skip


@pytest.mark.parametrize("task", TASKS)
def test_a_task_is_told_as_a_whole_in_80_to_200_words_and_a_hand_in_400(conf, task):
    config = conf(task)
    told = config.task
    assert told.name and len(told.name.split()) < 12
    assert told.has_text
    text = " ".join([told.description, *told.actions, told.reward, told.end, told.goal])
    assert 80 <= len(text.split()) <= (400 if len(told.actions) > 20 else 200)
    space = make(config).action_space
    assert len(told.actions) == (space.n if isinstance(space, gym.spaces.Discrete) else space.shape[0])


# ---- Atari: ALE's name of an action -> the words of its direction, and of FIRE.
# After a colon stands what the action does, in words that the joystick's direction does not bind.

DIRECTIONS = ("up", "down", "left", "right")
GAMES = [task.removeprefix("atari/") for task in TASKS if task.startswith("atari/")]
SUBTRACTING = {"boxing", "pong", "private_eye"}  # the only games whose points can be negative
CLOCK_OR_SCORE = {"freeway", *SUBTRACTING}  # these have no lives
NUMBERS = {3: "three", 4: "four", 5: "five", 6: "six"}


@pytest.mark.parametrize("game", GAMES)
def test_atari_actions_mean_what_ale_says(conf, game):
    config = conf(f"atari/{game}")
    for name, line in zip(make(config).action_meanings, config.task.actions, strict=True):
        words = set(re.findall(r"[a-z]+", line.lower().split(":")[0]))
        assert words & set(DIRECTIONS) == {d for d in DIRECTIONS if d.upper() in name}, (name, line)
        assert ("fire" in words) == ("FIRE" in name), (name, line)
        assert (name == "NOOP") == bool(re.search(r"do nothing|stay|no joystick", line)), (name, line)


@pytest.mark.parametrize("game", GAMES)
def test_atari_says_how_long_an_action_is_held(conf, game):
    assert "held for 4 frames" in conf(f"atari/{game}").task.description
    assert "held for 2 frames" in conf(f"atari/{game}", "env.preprocess.frame_skip=2").task.description


@pytest.mark.parametrize("game", GAMES)
def test_atari_tells_the_lives_that_ale_counts(conf, game):
    config = conf(f"atari/{game}")
    env = make(config)
    env.reset(seed=0)
    env.step(0)  # ALE reads the lives from a frame that the game has drawn
    # Amidar's counter is no plain number, 11 with the third gorilla; Bank Heist's leaves out the car being driven
    lives = {"amidar": env.ale.lives() - 8, "bank_heist": env.ale.lives() + 1}.get(game, env.ale.lives())
    if game in CLOCK_OR_SCORE:
        assert lives == 0 and "lives" not in config.task.goal
    else:
        assert f"{NUMBERS[lives]}" in config.task.end and "last" in config.task.end


# points that random play is sure to meet soon; where they are rare, only their sign is checked
SEEN = {
    "alien": {10},
    "amidar": {1},
    "assault": {21},
    "asterix": {50},
    "boxing": {-1, 1},
    "breakout": {1},
    "chopper_command": {100},
    "crazy_climber": {100},
    "demon_attack": {10},
    "freeway": {1},
    "frostbite": {10},
    "gopher": {20},
    "ms_pacman": {10},
    "pong": {-1},
    "private_eye": {-1},
    "qbert": {25},
    "seaquest": {20},
    "up_n_down": {10},
}
ALWAYS = {"freeway": 1, "private_eye": 0}  # an action that meets them where random play does not


@pytest.mark.parametrize("game", GAMES)
def test_atari_rewards_are_those_told_and_negative_only_where_told(conf, game):
    config = conf(f"atari/{game}", "env.preprocess.noop_max=0")
    env = make(config)
    env.reset(seed=0)
    seen = random_points(env.ale, SEEN.get(game), only=ALWAYS.get(game))
    assert SEEN.get(game, set()) <= seen
    assert (min(seen, default=0) < 0) <= (game in SUBTRACTING)
    assert ("Nothing is" in config.task.reward) == (game not in SUBTRACTING)
    assert ("subtracted" in config.task.reward) and not re.search(r"-\d|minus|penal", config.task.reward)
    told = {int(n.replace(",", "")) for n in re.findall(r"\d+(?:,\d{3})*", config.task.reward)}
    told |= set(range(1, 7)) if game == "amidar" else set()  # "1 to 6"
    assert {abs(r) for r in seen if abs(r) <= 100} <= told


def random_points(ale, until, only=None, frames=4000):
    """The points met within `frames` of random play, frame by frame; no further than it takes to meet `until`."""
    rng, seen, actions = np.random.default_rng(0), set(), ale.getMinimalActionSet()
    for frame in range(frames if until else frames // 4):
        if frame % 8 == 0:
            action = actions[rng.integers(len(actions)) if only is None else only]
        seen.add(ale.act(action))
        if until and until <= seen:
            break
        if ale.game_over():
            ale.reset_game()
    return seen - {0}


def test_pongs_joystick_moves_the_paddle_as_told(conf):
    config = conf("atari/pong", "env.preprocess.fire_reset=false")
    env = make(config)
    for action, line in enumerate(config.task.actions):
        env.reset(seed=0)
        push(env, "NOOP")
        before, _ = middle_of(env, (92, 186, 92))  # the green paddle
        env.step(action)
        env.step(action)
        row, _ = middle_of(env, (92, 186, 92))
        assert np.sign(row - before) == (-1 if "up" in line else 1 if "down" in line else 0), line


def test_qberts_joystick_hops_as_told(conf):
    config = conf("atari/qbert", "env.preprocess.noop_max=0")
    env = make(config)
    env.reset(seed=0)
    lines = dict(zip(env.action_meanings, config.task.actions, strict=True))
    for there, back in (("RIGHT", "LEFT"), ("DOWN", "UP")):  # from the top cube and back onto it
        env.reset(seed=0)
        push(env, "NOOP", wait=35)
        push(env, there)
        away = middle_of(env, (181, 83, 40))
        push(env, back)
        top = middle_of(env, (181, 83, 40))
        for name, (row, column) in ((there, np.subtract(away, top)), (back, np.subtract(top, away))):
            direction = f"{'down' if row > 0 else 'up'} and to the {'right' if column > 0 else 'left'}"
            assert lines[name].endswith(f"hop {direction}"), name


def push(env, name, wait=15):
    """Hold the joystick for three steps, then wait until what it moves has come to rest."""
    for _ in range(3):
        env.step(env.action_meanings.index(name))
    for _ in range(wait):
        env.step(0)


def middle_of(env, colour):
    """(row, column) of the middle of what has that colour on the field (the score is above it)."""
    rows, columns = np.nonzero((env.ale.getScreenRGB()[34:194] == colour).all(-1))
    return rows.mean(), columns.mean()


# ---- MuJoCo: the joint that an actuator drives -> words that its line has

JOINTS = {
    "half_cheetah": lambda joint: [{"b": "back", "f": "front"}[joint[0]], joint[1:]],
    "hopper": lambda joint: [joint.split("_")[0]],
    "walker2d": lambda joint: ["left" if "left" in joint else "right", joint.split("_")[0]],
    "swimmer": lambda joint: [{"motor1_rot": "first", "motor2_rot": "second"}[joint]],
    "ant": lambda joint: [joint.split("_")[0]],
    "humanoid": lambda joint: humanoid_words(joint),
    "humanoid_standup": lambda joint: humanoid_words(joint),
}


def humanoid_words(joint):
    number = {"1": ["first"], "2": ["second"]}.get(joint[-1], [])
    return [f"{part} axis" if part in "xyz" else part.rstrip("12") for part in joint.split("_")] + number


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("robot", JOINTS)
def test_mujoco_actions_are_those_of_the_actuators_with_their_ranges(conf, robot, version):
    config = conf(f"mujoco/{robot}", f"env.version={version}")
    env = make(config)
    model = env.unwrapped.model
    joints = [model.joint(model.actuator_trnid[k, 0]).name for k in range(model.nu)]
    space = env.action_space
    for joint, line, low, high in zip(joints, config.task.actions, space.low, space.high, strict=True):
        assert all(re.search(rf"\b{word}\b", line) for word in JOINTS[robot](joint)), (joint, line)
        assert line.endswith(f", {low:g} to {high:g}"), line
    if robot == "ant":
        assert [ant_corner(model, joint) for joint in joints] == [" ".join(x.split()[3:5]) for x in config.task.actions]


def ant_corner(model, joint):
    """Where the leg of a joint is, from the geometry (its names say otherwise); forward is +x, left is +y."""
    x, y, _ = model.body(f"aux_{joint[-1]}").pos
    return f"{'front' if x > 0 else 'back'} {'left' if y > 0 else 'right'}"


@pytest.mark.parametrize("robot", JOINTS)
def test_mujoco_says_how_long_an_action_lasts_and_when_it_is_cut_off(conf, robot):
    config = conf(f"mujoco/{robot}", "env.max_episode_steps=77")
    assert f"{make(config).unwrapped.dt:g} seconds" in config.task.description
    assert "after 77 steps" in config.task.end


ROBOTICS = [task.removeprefix("robotics/") for task in TASKS if task.startswith("robotics/")]


@pytest.mark.parametrize("task", ROBOTICS)
def test_robotics_says_range_time_and_end(conf, task):
    config = conf(f"robotics/{task}", "env.max_episode_steps=77", "env.ends=package")
    env = make(config)
    base = getattr(env.unwrapped, "ant_env", env.unwrapped)
    assert f"{base.dt:g} seconds" in config.task.description
    assert "after 77 steps" in " ".join(config.task.end.split())
    assert (env.action_space.low == -1).all() and (env.action_space.high == 1).all()
    assert all(line.endswith(", -1 to 1") for line in config.task.actions)
    if task.startswith("ant_maze"):
        assert config.task.actions == conf("mujoco/ant").task.actions


@pytest.mark.parametrize("task", [t for t in ROBOTICS if "ant_maze" in t])
def test_a_maze_is_as_large_as_told(conf, task):
    maze = make(conf(f"robotics/{task}")).unwrapped.maze
    rows, columns = maze.map_length - 2, maze.map_width - 2  # without the outer walls
    assert f"maze of {rows} by {columns} cells" in conf(f"robotics/{task}").task.description
    assert maze.maze_size_scaling == 4


@pytest.mark.parametrize("task", [t for t in ROBOTICS if "fetch" in t])
def test_fetchs_gripper_and_reward_are_as_told(conf, task):
    config = conf(f"robotics/{task}", "env.ends=package")
    env = make(config)
    base = env.unwrapped
    assert (
        ("opens" in config.task.actions[3])
        == (not base.block_gripper)
        == ("has no effect" not in config.task.actions[3])
    )
    env.reset(seed=0)
    grip = base.data.site("robot0:grip").xpos.copy()
    for _ in range(3):
        _, reward, _, _, _ = env.step(np.array([1, 0, 0, 1], np.float32))
    moved = base.data.site("robot0:grip").xpos - grip
    assert moved[0] > 0.05 > abs(moved[1])
    where = base.data.site("robot0:grip" if task == "fetch_reach" else "object0").xpos
    assert reward == pytest.approx(-np.linalg.norm(where - base.goal))
    fingers = base.data.joint("robot0:r_gripper_finger_joint").qpos[0]
    assert (fingers > 0.01) == (not base.block_gripper)


def test_the_doors_reward_is_the_formula_told(conf):
    env = make(conf("robotics/adroit_hand_door", "env.ends=package"))
    env.reset(seed=0)
    data = env.unwrapped.data
    for hinge in (0.0, 0.5, 1.2, 1.5):
        data.qpos[-2] = hinge
        reward = env.step(np.zeros(28, np.float32))[1]
        h = data.qpos[-2]
        told = 0.1 * np.linalg.norm(data.site("S_grasp").xpos - data.site("S_handle").xpos) - 0.1 * (h - 1.57) ** 2
        told += -0.00001 * np.square(data.qvel).sum() + 2 * (h > 0.2) + 8 * (h > 1.0) + 10 * (h > 1.35)
        assert reward == pytest.approx(told)


def test_the_hammers_reward_is_the_formula_told(conf):
    env = make(conf("robotics/adroit_hand_hammer", "env.ends=package"))
    env.reset(seed=0)
    data, rewards = env.unwrapped.data, set()
    for driven, lift in ((0.0, 0.0), (0.0, 0.1), (0.075, 0.0), (0.09, 0.0)):
        data.joint("nail_dir").qpos[0], data.joint("OBJTy").qpos[0] = driven, lift
        reward = env.step(np.zeros(26, np.float32))[1]
        palm, handle, head = data.site("S_grasp").xpos, data.body("Object").xpos, data.site("tool").xpos
        nail, goal = data.site("S_target").xpos, data.site("nail_goal").xpos
        distance = np.linalg.norm(nail - goal)
        told = 0.1 * np.linalg.norm(palm - handle) - np.linalg.norm(head - nail) - 10 * distance
        told += -0.01 * np.linalg.norm(data.qvel) + 2 * (handle[2] > 0.04 and head[2] > 0.04)
        bonus = 25 * (distance < 0.02) + 75 * (distance < 0.01)
        rewards.add(bonus)
        assert reward == pytest.approx(told + bonus)
    assert 0 in rewards and 100 in rewards


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize(
    ("robot", "upright", "speed", "effort"),
    [
        ("half_cheetah", 0, 1, 0.1),
        ("hopper", 1, 1, 0.001),
        ("walker2d", 1, 1, 0.001),
        ("ant", 1, 1, 0.5),
        ("swimmer", 0, 1, 0.0001),
        ("humanoid", 5, 1.25, 0.1),
    ],
)
def test_mujoco_rewards_are_those_told(conf, robot, upright, speed, effort, version):
    config = conf(f"mujoco/{robot}", f"env.version={version}")
    text = config.task.reward
    assert all(f"{number:g}" in text for number in (upright, effort) if number) and "forward velocity" in text
    env = make(config)
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(5):
        action = 0.3 * rng.uniform(env.action_space.low, env.action_space.high)
        _, reward, terminated, _, info = env.step(action)
        assert not terminated
        contact = info.get("reward_contact", 0.0)  # the ant's and the humanoid's, version 5 only
        assert contact <= 0 and (contact == 0 or "contact" in text)
        told = upright + speed * info["x_velocity"] - effort * np.square(action).sum()
        assert reward - contact == pytest.approx(told, abs=1e-6)


@pytest.mark.parametrize("version", [4, 5])
def test_standing_up_is_rewarded_as_told(conf, version):
    env = make(conf("mujoco/humanoid_standup", f"env.version={version}"))
    env.reset(seed=0)
    action = np.full(17, 0.1)
    _, reward, _, _, info = env.step(action)
    assert -10 <= info["reward_impact"] <= 0
    assert reward == pytest.approx(1 + env.unwrapped.data.qpos[2] / 0.003 - 0.1 * 17 * 0.01 + info["reward_impact"])


HEIGHTS = [("hopper", 0.7, np.inf), ("walker2d", 0.8, 2.0), ("ant", 0.2, 1.0), ("humanoid", 1, 2)]


@pytest.mark.parametrize(("robot", "low", "high"), HEIGHTS)
def test_mujoco_ends_at_the_heights_told(conf, robot, low, high):
    config = conf(f"mujoco/{robot}")
    assert f"{low}" in config.task.end
    base = make(config).unwrapped
    base.reset(seed=0)
    index = 1 if robot in ("hopper", "walker2d") else 2
    for height in (low - 0.01, low + 0.01, min(high - 0.01, 99), min(high + 0.01, 99)):
        position = base.init_qpos.copy()
        position[index] = height
        base.set_state(position, 0 * base.init_qvel)
        assert bool(base.is_healthy) == (low < height < high), height


# ---- classic control

RANGES = {"pendulum": "-2 to 2", "mountain_car_continuous": "-1 to 1"}


@pytest.mark.parametrize("name", RANGES)
def test_classic_ranges_are_those_of_the_action_space(conf, name):
    config = conf(f"classic/{name}")
    space = make(config).action_space
    assert config.task.actions[0].endswith(f"{space.low[0]:g} to {space.high[0]:g}")
    assert config.task.actions[0].endswith(RANGES[name])


@pytest.mark.parametrize(
    ("name", "index", "sign"), [("cart_pole", 1, -1), ("mountain_car", 1, -1), ("mountain_car_continuous", 1, 1)]
)
def test_classic_actions_push_the_way_they_say(conf, name, index, sign):
    """Action 0 pushes to the left, a positive force to the right, against what happens without a push."""
    config = conf(f"classic/{name}")
    env = make(config)
    still = {"cart_pole": None, "mountain_car": 1, "mountain_car_continuous": np.zeros(1, np.float32)}[name]
    push = np.ones(1, np.float32) if name == "mountain_car_continuous" else 0
    env.reset(seed=0)
    pushed = env.step(push)[0][index]
    start = env.reset(seed=0)[0]
    free = start[index] if still is None else env.step(still)[0][index]
    assert np.sign(pushed - free) == sign


@pytest.mark.parametrize(
    ("name", "action", "reward"),
    [("cart_pole", 0, 1), ("acrobot", 1, -1), ("mountain_car", 1, -1), ("mountain_car_continuous", [0.5], -0.025)],
)
def test_classic_rewards_are_those_told(conf, name, action, reward):
    env = make(conf(f"classic/{name}"))
    env.reset(seed=0)
    action = action if isinstance(action, int) else np.array(action, np.float32)
    assert env.step(action)[1] == pytest.approx(reward)


def test_the_pendulums_reward_is_the_formula_told(conf):
    env = make(conf("classic/pendulum"))
    cos, sin, velocity = env.reset(seed=3)[0]
    reward = env.step(np.array([1.5], np.float32))[1]
    assert reward == pytest.approx(-(np.arctan2(sin, cos) ** 2 + 0.1 * velocity**2 + 0.001 * 1.5**2), rel=1e-4)

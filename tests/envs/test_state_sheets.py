"""State sheets are true: one line per dimension, and moving one joint changes the dimension that names it, alone."""

import importlib.util
import re

import mujoco as mj
import numpy as np
import pytest
from conftest import ROOT, compose

from llmrl.config import from_node, module_of

PLANAR = {"rootx": "along x", "rootz": "height|along z", "rooty": "torso"}  # a slide's name is a word of its velocity
WORDS = {  # the model's joint -> words of its lines, all of which they have
    "hopper": lambda joint: [PLANAR.get(joint) or joint.removesuffix("_joint")],
    "walker2d": lambda joint: [PLANAR[joint]] if joint in PLANAR else walker(joint),
    "half_cheetah": lambda joint: [PLANAR[joint]] if joint in PLANAR else cheetah(joint),
    "swimmer": lambda joint: [{"slider1": "along x", "slider2": "along y", "free_body_rot": "front rod",
                               "motor1_rot": "first joint", "motor2_rot": "second joint"}[joint]],
    "humanoid": lambda joint: joint.rstrip("12").split("_") + [{"1": "first", "2": "second"}.get(joint[-1], "")],
}  # fmt: skip
ALL = [("mujoco/" + robot, f"env.version={v}") for robot in (*WORDS, "ant") for v in (4, 5)]
ALL += [(f"mujoco/{robot}", "env.observe=joints") for robot in ("hopper", "ant", "humanoid")]
ALL += [
    ("mujoco/humanoid", "env.version=4", "env.observe=joints"),
    ("mujoco/walker2d_jump",),
    ("mujoco/walker2d_split",),
]
ALL += [("classic/pendulum",), ("classic/cart_pole",), ("robotics/adroit_hand_door",), ("robotics/adroit_hand_hammer",)]
ALL += [(f"robotics/{task}", f"env.goal_obs={choice}") for choice in ("authors", "with_achieved")
        for task in ("ant_maze_open", "ant_maze_medium", "ant_maze_large", "fetch_reach", "fetch_push", "fetch_slide",
                     "fetch_pick_and_place")]  # fmt: skip


def made(task, *overrides):
    """(environment after a reset, the lines of its sheet)"""
    config = from_node(compose([f"env={task}", *overrides])).env
    env = module_of("env", config.suite).make(config, "eval")
    env.reset(seed=0)
    return env, config.task.observation


def walker(joint):
    part = joint.split("_")[0]
    return ["left" if "left" in joint else "right", part]


def cheetah(joint):
    return [{"b": "back", "f": "front"}[joint[0]], joint[1:]]


def ant_words(model, joint):
    x, y, _ = model.body(f"aux_{joint[-1]}").pos  # where the leg is; forward is +x, left is +y
    return [f"{'front' if x > 0 else 'back'} {'left' if y > 0 else 'right'}", joint[:-2]]


def changed_by(array, index, observe):
    """The dimensions of the observation that change with this entry of qpos or qvel."""
    before = observe().copy()
    array[index] += 0.25
    after = observe()
    array[index] -= 0.25
    return np.flatnonzero(before != after)


def says(line, words):
    return all(re.search(rf"\b({word})\b", line) for word in words if word)


@pytest.mark.parametrize("task", ALL, ids=" ".join)
def test_a_sheet_has_one_line_with_a_unit_per_dimension(task):
    env, sheet = made(*task)
    assert len(sheet) == len(env.reset(seed=1)[0]) == env.observation_space.shape[0]
    assert all(re.fullmatch(r"\S.* \([^()]+\)", line.replace("(towards negative y) ", "")) for line in sheet)
    assert len(set(sheet)) >= len(sheet) - 3  # a body without object observes its gripper as the achieved goal, again


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("robot", [*WORDS, "ant"])
def test_moving_a_joint_changes_the_described_dimension_alone(robot, version):
    env, sheet = made(f"mujoco/{robot}", f"env.version={version}")
    base = env.unwrapped
    model, data = base.model, base.data
    assert (
        joints_are_described(sheet, model, data, base._get_obs, lambda j: words(robot, model, j)) == model.nq + model.nv
    )


def words(robot, model, joint):
    return ant_words(model, joint) if robot == "ant" else WORDS[robot](joint)


def joints_are_described(sheet, model, data, observe, words_of):
    """How many entries of qpos and qvel were found to be described, or not to be observed as root's x and y."""
    found, hidden = {}, 0
    data.qvel[:] = 0.1
    for k in range(model.njnt):
        joint, free = model.joint(k), model.jnt_type[k] == mj.mjtJoint.mjJNT_FREE
        for array, start, size, kind in ((data.qpos, joint.qposadr[0], 7 if free else 1, "position"),
                                         (data.qvel, joint.dofadr[0], 6 if free else 1, "velocity")):  # fmt: skip
            for i in range(size):
                moved = changed_by(array, start + i, observe)
                if len(moved) == 0:
                    assert kind == "position" and start + i < 2  # x and y of the root
                    hidden += 1
                    continue
                (dimension,) = moved
                assert dimension not in found
                found[dimension] = line = sheet[dimension]
                expected = free_root(kind, i) if free else words_of(joint.name)
                assert says(line, expected), (joint.name, line)
                assert ("velocity" in line or line.startswith("rate ")) == (kind == "velocity"), line
                assert says(line, ["height|angle|orientation|velocity|rate|how far|opening"]), line
    assert set(found) == set(range(len(found)))  # positions and velocities come first
    return len(found) + hidden


def free_root(kind, i):
    if kind == "position":
        return ["torso", "height" if i == 2 else f"quaternion's {'wxyz'[i - 3]}"]
    return ["torso", f"along the world's {'xyz'[i]}" if i < 3 else f"its own {'xyz'[i - 3]} axis"]


@pytest.mark.parametrize(
    ("robot", "where"), [("hopper", "leaning forward"), ("walker2d", "leaning forward"), ("half_cheetah", "front down")]
)
def test_the_sign_of_the_torsos_angle_is_the_one_told(robot, where):
    env, sheet = made(f"mujoco/{robot}")
    data = env.unwrapped.data
    data.qpos[2] = 0.3
    mj.mj_forward(env.unwrapped.model, data)
    torso = data.body("torso").xmat.reshape(3, 3)
    assert (torso[0, 2] > 0) if where == "leaning forward" else (torso[2, 0] < 0)
    assert all(
        where in sheet[i] or f"turns the {where}" in sheet[i] for i in range(len(sheet)) if "positive" in sheet[i]
    )


@pytest.mark.parametrize("robot", ["hopper", "walker2d", "half_cheetah", "ant", "humanoid"])
def test_the_height_is_measured_from_where_it_is_told(robot):
    env, sheet = made(f"mujoco/{robot}")
    base = env.unwrapped
    mj.mj_forward(base.model, base.data)
    offset = 0.7 if "0.7 metres above the ground" in sheet[0] else 0
    assert base._get_obs()[0] + offset == pytest.approx(base.data.body("torso").xpos[2])


@pytest.mark.parametrize(
    ("robot", "limited"), [("hopper", True), ("walker2d", True), ("half_cheetah", False), ("swimmer", False)]
)
def test_velocities_are_limited_where_it_is_told(robot, limited):
    env, sheet = made(f"mujoco/{robot}")
    env.unwrapped.data.qvel[:] = 100
    velocities = env.unwrapped._get_obs()[-env.unwrapped.model.nv :]
    assert (velocities == (10 if limited else 100)).all()
    assert all(("limited to -10..10" in line) == (limited and "velocity" in line) for line in sheet)


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("robot", ["ant", "humanoid"])
def test_forces_and_inertias_are_what_the_lines_say(robot, version):
    """Every further dimension is computed anew from what its line says, after some steps of random play."""
    env, sheet = made(f"mujoco/{robot}", f"env.version={version}")
    base, rng = env.unwrapped, np.random.default_rng(0)
    for _ in range(30):
        obs = env.step(rng.uniform(env.action_space.low, env.action_space.high))[0]
    model, data = base.model, base.data
    bodies = {spoken_body(robot, model, i): i for i in range(model.nbody)}
    compared = 0
    for value, line in list(zip(obs, sheet, strict=True))[model.nq + model.nv - 2 :]:
        assert value == pytest.approx(told_value(line, bodies, robot, model, data), abs=1e-9), line
        compared += value != 0
    assert compared >= (0 if robot == "ant" and version == 4 else 6)


def spoken_body(robot, model, i):
    if i == 0:
        return "the ground, always 0"
    if robot == "humanoid":
        return model.body(i).name.replace("_", " ").replace("lwaist", "lower waist")
    if i == 1:
        return "torso"
    leg, part = divmod(i - 2, 3)
    return f"{ant_words(model, f'hip_{leg + 1}')[0]} {('inner', 'middle', 'outer')[part]} link"


def told_value(line, bodies, robot, model, data):
    name, _, rest = line.partition(": ")
    if line.startswith("motor that"):
        return 0.0
    if "motor at" in line:
        joint = re.search(r"motor at the (.*) \(N m\)", line)[1]
        spoken = [j for j in range(1, model.njnt) if says(joint, WORDS["humanoid"](model.joint(j).name))]
        return data.qfrc_actuator[model.joint(spoken[0]).dofadr[0]]
    body = bodies[name]
    axis = re.search(r"\b(?:about|along) ([xyz])\b", rest)
    k = "xyz".index(axis[1]) if axis else None
    if "contact" in rest:  # MuJoCo's order: torque, force
        value = data.cfrc_ext[body][k + 3 * ("force" in rest)]
        return np.clip(value, -1, 1) if "limited to -1..1" in rest else value
    if "velocity" in rest:
        return data.cvel[body][k + 3 * (not rest.startswith("angular"))]  # MuJoCo's order: angular, linear
    return inertia(rest, body, k, model, data)


def inertia(rest, body, k, model, data):
    """From mass, moments and pose, by the parallel-axis theorem."""
    if body == 0:
        return 0.0
    mass, rotation = model.body_mass[body], data.ximat[body].reshape(3, 3)
    d = data.xipos[body] - data.subtree_com[model.body_rootid[body]]
    tensor = rotation @ np.diag(model.body_inertia[body]) @ rotation.T + mass * (d @ d * np.eye(3) - np.outer(d, d))
    if "moment of inertia" in rest:
        return tensor[k, k]
    if "product of inertia" in rest:
        a, b = re.search(r"inertia (\w)(\w)", rest).groups()
        return tensor["xyz".index(a), "xyz".index(b)]
    return mass * d[k] if "mass times distance" in rest else mass


def test_contacts_are_torque_and_then_force():
    """Gymnasium's documentation says the opposite order; the weight of a standing ant tells."""
    env, sheet = made("mujoco/ant")
    for _ in range(200):
        env.step(np.zeros(8, np.float32))
    model, data = env.unwrapped.model, env.unwrapped.data
    weight = -model.body_mass.sum() * model.opt.gravity[2]
    assert data.cfrc_ext.sum(axis=0)[3:] == pytest.approx([0, 0, weight], abs=0.05 * weight)
    assert "torque about x" in sheet[27] and "force along z" in sheet[32]


def test_a_free_roots_rotation_is_about_its_own_axes():
    env, _ = made("mujoco/ant")
    model, data = env.unwrapped.model, env.unwrapped.data
    data.qpos[3:7] = [np.sqrt(0.5), np.sqrt(0.5), 0, 0]  # a quarter turn about x: its y axis points up
    data.qvel[:] = 0
    data.qvel[4] = 1
    mj.mj_forward(model, data)
    assert data.cvel[1][:3] == pytest.approx([0, 0, 1], abs=1e-9)


def test_the_long_sheets_are_those_that_the_script_writes(tmp_path):
    spec = importlib.util.spec_from_file_location("script", ROOT / "scripts" / "write_state_sheets.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.main(tmp_path)
    for name in ("ant", "humanoid"):
        assert (tmp_path / f"{name}.yaml").read_text() == (ROOT / f"conf/env/mujoco/_sheets/{name}.yaml").read_text()


# ---- classic control


def test_the_pendulums_sheet():
    env, sheet = made("classic/pendulum")
    env.unwrapped.state = np.array([0.1, 0.0])  # its angle, counter-clockwise from upright
    cos, sin, velocity = env.step(np.array([2.0], np.float32))[0]
    assert cos > 0.98 and sin > 0 and velocity > 0 and "counter-clockwise" in sheet[1] and "-8..8" in sheet[2]
    assert env.observation_space.high[2] == 8


def test_the_cart_poles_sheet():
    env, sheet = made("classic/cart_pole")
    env.unwrapped.state = np.array([0.0, 1.0, 0.1, 0.5])  # to the right, leaning to the right and falling further
    position, velocity, angle, _ = env.step(1)[0]
    assert position > 0 and velocity > 1 and angle > 0.1
    assert ["right" in line for line in sheet] == [True] * 4

"""State sheets of the robotics suite are true: each line's value is moved or computed anew from what the line says."""

import re

import mujoco as mj
import numpy as np
import pytest
from conftest import compose
from test_state_sheets import ant_words, changed_by, joints_are_described, made, says

from llmrl.config import from_node

HAND = {
    "FF": "forefinger",
    "MF": "middle finger",
    "RF": "ring finger",
    "LF": "little finger",
    "TH": "thumb",
    "WR": "wrist",
}
JOINT = {"FFJ3": "knuckle sideways", "FFJ2": "knuckle bend", "FFJ1": "middle joint bend", "FFJ0": "tip joint bend",
         "LFJ4": "bend in the palm", "THJ4": "base turn", "THJ3": "base bend", "THJ2": "middle joint sideways",
         "THJ1": "middle joint bend", "THJ0": "tip joint bend", "WRJ1": "sideways", "WRJ0": "bend"}  # fmt: skip
ARM = {
    "ARTz": "slide along its length",
    "ARRx": "up and down",
    "ARRy": "left and right",
    "ARRz": "roll about its length",
}
THINGS = {"latch": ["latch"], "door_hinge": ["door's hinge"], "nail_dir": ["nail"]}


def hand_words(joint):
    if joint in THINGS:
        return THINGS[joint]
    if joint in ARM:
        return ["forearm", ARM[joint]]
    return [HAND[joint[:2]], JOINT.get(joint) or JOINT["FF" + joint[2:]]]


@pytest.mark.parametrize("name", ["door", "hammer"])
def test_adroits_joints_are_described(name):
    env, sheet = made(f"robotics/adroit_hand_{name}")
    base, seen = env.unwrapped, []
    for k in range(base.model.njnt):
        joint = base.model.joint(k).name
        moved = changed_by(base.data.qpos, base.model.joint(k).qposadr[0], base._get_obs)
        if joint == "ARTz" or joint.startswith("OBJ"):  # the forearm's slide and the hammer's own are not observed
            assert len(moved) == 0
            continue
        (dimension,) = moved
        assert says(sheet[dimension], hand_words(joint)), (joint, sheet[dimension])
        seen.append(dimension)
    assert len(seen) == {"door": 29, "hammer": 27}[name]


@pytest.mark.parametrize("name", ["door", "hammer"])
def test_adroits_actions_are_those_of_the_motors(name):
    env, _ = made(f"robotics/adroit_hand_{name}")
    model = env.unwrapped.model
    actions = from_node(compose([f"env=robotics/adroit_hand_{name}"])).env.task.actions
    joints = [model.joint(model.actuator_trnid[k, 0]).name for k in range(model.nu)]
    assert all(says(line, hand_words(joint)) for joint, line in zip(joints, actions, strict=True))


def test_the_rest_of_the_doors_state():
    env, sheet = made("robotics/adroit_hand_door")
    base, data = env.unwrapped, env.unwrapped.data
    data.qpos[-2] = 1.2  # the hinge
    mj.mj_forward(base.model, data)
    palm, handle = data.site("S_grasp").xpos, data.site("S_handle").xpos
    told = [(f"position of the palm along {a}", palm[i]) for i, a in enumerate("xyz")]
    told += [(f"position of the door's handle along {a}", handle[i]) for i, a in enumerate("xyz")]
    told += [(f"palm minus that of the handle, along {a}", palm[i] - handle[i]) for i, a in enumerate("xyz")]
    told += [("1 if the door's hinge is beyond 1 radian", 1.0)]
    compare(base._get_obs()[-10:], sheet[-10:], told)


def compare(values, lines, told):
    for value, line, (words, expected) in zip(values, lines, told, strict=True):
        assert words in line and value == pytest.approx(expected), line


def test_the_rest_of_the_hammers_state():
    """Its slides point where their lines say; what the package calls y and z are the world's z and -y."""
    env, sheet = made("robotics/adroit_hand_hammer")
    base, model, data = env.unwrapped, env.unwrapped.model, env.unwrapped.data
    body = model.body("Object").id
    directions = {"world's x axis": [1, 0, 0], "world's z axis": [0, 0, 1], "world's y axis, backward": [0, -1, 0],
                  "world's negative y axis": [0, -1, 0]}  # fmt: skip
    for k, joint in enumerate(("OBJTx", "OBJTy", "OBJTz", "OBJRx", "OBJRy", "OBJRz")):
        data.qvel[:] = 0
        data.qvel[model.joint(joint).dofadr[0]] = 0.5
        mj.mj_forward(model, data)
        assert np.flatnonzero(base._get_obs()[27:33]).tolist() == [k]
        velocity = np.zeros(6)
        mj.mj_objectVelocity(model, data, mj.mjtObj.mjOBJ_XBODY, body, velocity, 0)
        (axis,) = (v for words, v in directions.items() if words in sheet[27 + k])
        assert (velocity[3:] if k < 3 else velocity[:3]) == pytest.approx(0.5 * np.array(axis), abs=1e-2)
        assert ("rotation" in sheet[27 + k]) == (k >= 3)
    palm, handle, nail = data.site("S_grasp").xpos, data.geom("handle").xpos, data.site("S_target").xpos
    obs, told = base._get_obs(), []
    for words, x in (
        ("palm", palm),
        ("hammer's handle", handle),
        ("orientation of the hammer", None),
        ("nail's head", nail),
    ):
        told += [(words, obs[39 + i] if x is None else x[i]) for i in range(3)]
    compare(obs[33:45], sheet[33:45], told)
    before = np.linalg.norm(nail - data.site("nail_goal").xpos)
    data.qpos[model.joint("nail_dir").qposadr[0]] += 0.05
    mj.mj_forward(model, data)
    after = np.linalg.norm(data.site("S_target").xpos - data.site("nail_goal").xpos)
    assert after == pytest.approx(before - 0.05) and "driven in" in sheet[26]
    assert model.sensor("S_nail").adr[0] == model.sensor("S_nail").id and "touch" in sheet[45]  # the package reads [id]


def test_an_ant_in_a_maze_is_described_as_the_ant_is():
    env, sheet = made("robotics/ant_maze_open", "env.goal_obs=with_achieved")
    base = env.unwrapped

    def observe():
        return base._get_obs(base.ant_env._get_obs())["observation"]

    model, data = base.model, base.data
    assert joints_are_described(sheet, model, data, observe, lambda j: ant_words(model, j)) == model.nq + model.nv
    obs = env.step(np.zeros(8, np.float32))[0]
    told = [("position of the goal along x", base.goal[0]), ("position of the goal along y", base.goal[1])]
    told += [("position of the torso along x", data.qpos[0]), ("position of the torso along y", data.qpos[1])]
    compare(obs[-4:], sheet[-4:], told)


@pytest.mark.parametrize("task", ["fetch_reach", "fetch_push", "fetch_slide", "fetch_pick_and_place"])
def test_fetchs_state_is_what_the_lines_say(task):
    """After some steps every line's value is computed anew from sites, joints and Jacobians."""
    env, sheet = made(f"robotics/{task}", "env.goal_obs=with_achieved")
    base, rng = env.unwrapped, np.random.default_rng(0)
    for _ in range(3):
        obs = env.step(rng.uniform(-1, 1, 4).astype(np.float32))[0]
    thing = {"fetch_reach": None, "fetch_slide": "puck"}.get(task, "block")
    if thing:  # let it move, so that no velocity is zero
        base.data.qvel[-6:] = 0.1 * np.arange(1, 7)
        mj.mj_forward(base.model, base.data)
        obs = env._flat(base._get_obs())
    for value, line in zip(obs, sheet, strict=True):
        assert value == pytest.approx(fetch_value(line, base, thing), abs=1e-9), line


def fetch_value(line, base, thing):
    model, data = base.model, base.data
    axis = re.search(r"\b(?:along|about) ([xyz])\b", line)
    k = "xyz".index(axis[1]) if axis else None
    if "finger" in line:
        joint = f"robot0:{'r' if 'right' in line else 'l'}_gripper_finger_joint"
        return data.joint(joint).qpos[0] if "opening" in line else data.joint(joint).qvel[0] * 0.04
    if "goal" in line:
        return base.goal[k]
    grip = data.site("robot0:grip").xpos[k]
    if line.startswith("position"):
        if "minus" in line:
            return data.site("object0").xpos[k] - grip
        return data.site("object0").xpos[k] if thing and thing in line else grip
    if "Euler" in line:
        from gymnasium_robotics.utils.rotations import mat2euler

        return mat2euler(data.site("object0").xmat.reshape(3, 3))[k]
    moving = site_velocity(model, data, "object0" if thing and thing in line else "robot0:grip")
    if "angular" in line:
        return moving[k] * 0.04
    relative = site_velocity(model, data, "robot0:grip")[3 + k] if "relative to the gripper" in line else 0.0
    return (moving[3 + k] - relative) * 0.04


def site_velocity(model, data, name):
    """(angular, linear) velocity of a site in the world's axes."""
    linear, angular = np.zeros((3, model.nv)), np.zeros((3, model.nv))
    mj.mj_jacSite(model, data, linear, angular, model.site(name).id)
    return np.concatenate([angular @ data.qvel, linear @ data.qvel])

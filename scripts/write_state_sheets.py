"""Writes conf/env/mujoco/_sheets/{ant,humanoid}.yaml: what each dimension of these long states means.

The order comes from MuJoCo's model (its joints and bodies); tests/envs/test_state_sheets.py checks it against the
simulator.

    .venv/bin/python scripts/write_state_sheets.py [directory]
"""

import sys
from pathlib import Path

import gymnasium as gym

ROOT = Path(__file__).parents[1]
AXES = "xyz"
AT_COM = "taken at the robot's centre of mass"


def main(directory: Path) -> None:
    for name in ("ant", "humanoid"):
        text = ant() if name == "ant" else humanoid()
        (directory / f"{name}.yaml").write_text(text)


def ant() -> str:
    model = gym.make("Ant-v5").unwrapped.model
    corner = {n: _corner(model.body(f"aux_{n}").pos) for n in "1234"}  # the model's own names of the legs are wrong
    joints = [f"{corner[j[-1]]} {j[:-2]}" for j in _names(model, "joint")[1:]]
    links = ["torso"] + [f"{corner[n]} {part} link" for n in "1234" for part in ("inner", "middle", "outer")]
    states = _root() + [f"angle of the {j} (rad)" for j in joints]
    states += _root_velocity() + [f"angular velocity of the {j} (rad/s)" for j in joints]
    forces = _contacts(links, ", limited to -1..1")
    return _yaml("Ant", {5: {"all": states + forces, "joints": states}, 4: {"all": states, "joints": states}})


def humanoid() -> str:
    model = gym.make("Humanoid-v5").unwrapped.model
    joints = [_spoken(j) for j in _names(model, "joint")[1:]]
    bodies = [b.replace("_", " ").replace("lwaist", "lower waist") for b in _names(model, "body")[1:]]
    states = _root() + [f"angle of the {j} (rad)" for j in joints]
    states += _root_velocity() + [f"angular velocity of the {j} (rad/s)" for j in joints]
    torques = [f"torque of the motor at the {j} (N m)" for j in joints]
    five = states + _inertia(bodies) + _motion(bodies) + torques + _contacts(bodies)
    world = "the ground, always 0"  # version 4 holds it as the first body, and the root's six missing motors
    none = [f"motor that pushes the root along {a}: there is none, always 0 (N)" for a in AXES]
    none += [f"motor that turns the root about {a}: there is none, always 0 (N m)" for a in AXES]
    four = (
        states + _inertia([world, *bodies]) + _motion([world, *bodies]) + none + torques + _contacts([world, *bodies])
    )
    return _yaml("Humanoid", {5: {"all": five, "joints": states}, 4: {"all": four, "joints": states}})


def _names(model, kind: str) -> list[str]:
    return [getattr(model, kind)(i).name for i in range(model.njnt if kind == "joint" else model.nbody)]


def _corner(position) -> str:
    """Forward is +x, left is +y."""
    return f"{'front' if position[0] > 0 else 'back'} {'left' if position[1] > 0 else 'right'}"


def _spoken(joint: str) -> str:
    """right_hip_x -> right hip, x axis; left_shoulder1 -> left shoulder, first axis"""
    number = {"1": ", first axis", "2": ", second axis"}.get(joint[-1], "")
    name, _, axis = joint.rstrip("12").rpartition("_")
    return f"{name.replace('_', ' ')}, {axis} axis" if axis in AXES else f"{name} {axis}{number}"


def _root() -> list[str]:
    return ["height of the torso (m)"] + [f"orientation of the torso, quaternion's {c} (no unit)" for c in "wxyz"]


def _root_velocity() -> list[str]:
    return [f"velocity of the torso along the world's {a} (m/s)" for a in AXES] + [
        f"angular velocity of the torso about its own {a} axis (rad/s)" for a in AXES
    ]


def _inertia(bodies: list[str]) -> list[str]:
    parts = [f"moment of inertia about {a}, {AT_COM} (kg m^2)" for a in AXES]
    parts += [f"product of inertia {ab}, {AT_COM} (kg m^2)" for ab in ("xy", "xz", "yz")]
    parts += [f"mass times distance from the robot's centre of mass along {a} (kg m)" for a in AXES] + ["mass (kg)"]
    return [f"{body}: {part}" for body in bodies for part in parts]


def _motion(bodies: list[str]) -> list[str]:
    parts = [f"angular velocity about {a} (rad/s)" for a in AXES] + [
        f"velocity along {a}, {AT_COM} (m/s)" for a in AXES
    ]
    return [f"{body}: {part}" for body in bodies for part in parts]


def _contacts(bodies: list[str], limit: str = "") -> list[str]:
    parts = [f"contact torque about {a}, {AT_COM} (N m{limit})" for a in AXES]
    parts += [f"contact force along {a} (N{limit})" for a in AXES]
    return [f"{body}: {part}" for body in bodies for part in parts]


def _yaml(robot: str, sheets: dict[int, dict[str, list[str]]]) -> str:
    lines = [
        "# @package _global_",
        f"# {robot}'s state, by env.version and env.observe. Written by scripts/write_state_sheets.py.",
        "sheets:  # read by env.task.observation alone",
    ]
    for version, by_choice in sheets.items():
        lines.append(f"  v{version}:  # env.version={version}")
        for choice, sheet in by_choice.items():
            shared = "" if choice == "all" else " &joints" if version == 5 else " *joints"
            lines.append(f"    {choice}:{shared}  # env.observe={choice}, {len(sheet)} dimensions")
            lines += [f'      - "{line}"' for line in sheet] if shared != " *joints" else []
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else ROOT / "conf" / "env" / "mujoco" / "_sheets")

"""The table in MuJoCo: five balls, four unseen walls and the pusher; and one push in many scenes side by side.

Source: docs/papers/kalm.md. A full state is qpos (37) and qvel (32): seven numbers a ball (x, y, z and
a quaternion), the pusher's x and y, then six velocities a ball and the pusher's two.
"""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmrl.envs.base import require
from llmrl.envs.mujoco import choose_renderer

COLOURS = ("red", "blue", "green", "purple", "cyan")  # of ball 0-4
RGBA = ("1 .1 .1 1", ".2 .5 1 1", ".2 1 0 1", ".8 .2 1 1", ".2 1 1 1")
BALLS = 5
RADIUS = 0.13  # m
REST_Z = -0.325 + RADIUS  # m, of a ball's middle on the table
STATE = 69  # numbers in a full state
POSITION, PUSHER = 7 * BALLS, slice(35, 37)  # in a full state: where the balls' qpos ends, the pusher's x and y
VELOCITY, PUSHER_VELOCITY = slice(37, 67), slice(67, 69)

# An action is 8 * ball + direction. Their order and lengths are the original's; the force in newton is the vector.
DIRECTIONS = np.array([[1, 0], [0, 1], [-1, 0], [0, -1], [0.8, 0.8], [-0.8, 0.8], [0.8, -0.8], [-0.8, -0.8]])
ACTIONS = BALLS * len(DIRECTIONS)
BACK_OFF = 0.15  # the pusher starts this many directions behind the ball's middle
SUBSTEPS = 40  # of 0.01 s in one push
CHUNK = 256  # scenes simulated in one call: all their substeps are kept until it returns, 22 KB a scene

# MuJoCo 3.10 adds the margins of two geoms, where older ones took the larger: hence half of the original's 0.002.
MARGIN = 0.001
ARMATURE = 0.04


def _mjcf() -> str:
    balls = "".join(
        f'<body name="ball{i}" pos="0 0 {REST_Z}"><joint type="free" damping="0.75" limited="false"/>'
        f'<geom type="sphere" size="{RADIUS}" density="1" contype="1" conaffinity="1" rgba="{rgba}"/></body>'
        for i, rgba in enumerate(RGBA)
    )
    # 1.57 and not pi/2: the walls lean a little, as the original's do, and the authors' recorded steps show it
    walls = "".join(
        f'<geom type="plane" size="2 2 0.1" pos="{x} {y} 0" euler="{lean} 0" contype="1" rgba="0 0 0 0"/>'
        for x, y, lean in ((-0.6, 0, "0 1.57"), (0.6, 0, "0 -1.57"), (0, 0.7, "1.57 0"), (0, -0.3, "-1.57 0"))
    )
    slides = "".join(
        f'<joint name="{name}" type="slide" axis="{axis}" damping="0.5" range="-10 10"/>'
        for name, axis in (("x", "1 0 0"), ("y", "0 1 0"))
    )
    motors = "".join(f'<motor joint="{name}" ctrllimited="true" ctrlrange="-2 2"/>' for name in "xy")
    return f"""
    <mujoco>
      <compiler angle="radian" inertiafromgeom="true"/>
      <option timestep="0.01" gravity="0 0 -9.81" iterations="20" integrator="Euler"/>
      <default>
        <joint armature="{ARMATURE}" damping="1" limited="true"/>
        <geom friction="0.8 0.1 0.1" margin="{MARGIN}" condim="3" contype="0" conaffinity="0"/>
      </default>
      <worldbody>
        <light diffuse="0.5 0.5 0.5" pos="0 0 3" dir="0 0 -1"/>
        <geom type="plane" pos="0 0.5 -0.325" size="1 1 0.1" contype="1" conaffinity="1"/>
        {walls}{balls}
        <body name="pusher" pos="0 0 -0.2">
          <geom type="sphere" size="0.05" density="0.5" contype="1" rgba="1 1 1 1"/>{slides}
        </body>
      </worldbody>
      <actuator>{motors}</actuator>
    </mujoco>"""


@cache
def compiled() -> Any:
    """The MjModel, made once in a process and shared; nobody changes it. Raises ConfigError where MuJoCo is missing."""
    choose_renderer()  # MuJoCo decides when it is imported how it will draw
    mujoco = require("mujoco", "gymnasium[mujoco]", "env=clevr_robot")
    model = mujoco.MjModel.from_xml_string(_mjcf())
    # Since 3.0 the compiler leaves the armature out of the pusher's inverse weights. Its contacts would be a hundred
    # times too soft, and it would slide past the balls.
    pusher = model.body("pusher").id
    inverse = 1 / (model.body_mass[pusher] + ARMATURE)
    model.dof_invweight0[-2:] = inverse
    model.body_invweight0[pusher] = (inverse * 2 / 3, 0)
    # trees of a body's geoms spare no collision where a body has one geom; without them a push takes 8 % less time
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_MIDPHASE
    return model


def xy_of(states: NDArray) -> NDArray[np.float64]:
    """Full states (..., 69) -> the balls' middles (..., 5, 2) in m."""
    return states[..., :POSITION].reshape(*states.shape[:-1], BALLS, 7)[..., :2]


def velocity_of(states: NDArray) -> NDArray[np.float64]:
    """Full states (..., 69) -> the balls' horizontal velocities (..., 5, 2) in m/s."""
    return states[..., VELOCITY].reshape(*states.shape[:-1], BALLS, 6)[..., :2]


def at_rest(xy: NDArray) -> NDArray[np.float64]:
    """Balls at (..., 5, 2) m -> full states (..., 69) in which nothing moves."""
    rest = np.broadcast_to([REST_Z, 1.0, 0.0, 0.0, 0.0], (*xy.shape[:-1], 5))
    positions = np.concatenate([xy, rest], axis=-1).reshape(*xy.shape[:-2], POSITION)
    return np.concatenate([positions, np.zeros((*xy.shape[:-2], STATE - POSITION))], axis=-1)


class Table:
    """Simulates pushes in any number of scenes, `threads` at a time; the result does not depend on `threads`."""

    def __init__(self, threads: int = 1) -> None:
        import mujoco
        from mujoco.rollout import Rollout

        self._model = compiled()
        self._data = [mujoco.MjData(self._model) for _ in range(threads)]
        self._rollout = Rollout(nthread=threads if threads > 1 else 0)  # 0: in the thread that calls

    def push(self, states: NDArray, actions: NDArray, from_xy: NDArray | None = None) -> NDArray[np.float64]:
        """One push each: states (n, 69), actions (n,) -> states (n, 69) 0.4 s later.

        The pusher appears behind its ball, at rest, and is driven for 0.4 s; the balls keep their velocities. from_xy:
        (n, 5, 2) where the balls are believed to be, in place of where they are.
        """
        balls, directions = np.divmod(actions, len(DIRECTIONS))
        force = DIRECTIONS[directions]
        start = np.concatenate([np.zeros((len(states), 1)), states], axis=1)  # MuJoCo's state begins with the time
        believed = xy_of(states) if from_xy is None else from_xy
        scenes = np.arange(len(states))
        start[:, 1:][:, PUSHER] = believed[scenes, balls] - BACK_OFF * force
        start[:, 1:][:, PUSHER_VELOCITY] = 0
        after = np.empty_like(states)
        for first in range(0, len(states), CHUNK):
            part = slice(first, first + CHUNK)
            after[part] = self._simulate(start[part], force[part])
        return after

    def _simulate(self, start: NDArray, force: NDArray) -> NDArray[np.float64]:
        """MuJoCo states (n, 70) and forces (n, 2) held all the time -> full states (n, 69). Every scene begins without
        a warm start, as the original's pushes do."""
        n = len(start)
        path, sensors = np.empty((n, SUBSTEPS, STATE + 1)), np.empty((n, SUBSTEPS, 0))
        control = np.repeat(force[:, None], SUBSTEPS, axis=1)
        self._rollout.rollout(
            [self._model] * n, self._data, start, control, nstep=SUBSTEPS, state=path, sensordata=sensors,
            skip_checks=True,  # a twentieth of the time of a single push
        )  # fmt: skip
        return path[:, -1, 1:]

"""What MuJoCo draws of the pick-and-place table: RGB and height from above, and a rendering with an arm for people.

Both are drawn off the screen by OpenGL, each with a context of its own: the camera's has neither shadows nor smoothed
edges, so that a pixel is what is in its middle (and takes a tenth of the time), the rendering has both.
"""

from math import acos, atan2, cos, hypot, sin
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmrl.envs.opengl import OpenGL
from llmrl.envs.pick_place import model as table_model

RENDERING = 480  # pixels of a rendering's side
SHOULDER, UPPER, FORE, WRIST = 0.10, 0.42, 0.46, 0.13  # m, of the arm that is drawn: it only looks like one
ARM_RGBA = (0.82, 0.83, 0.85, 1.0)


class Camera:
    """Looks at one model."""

    def __init__(self, gl: OpenGL, model: Any) -> None:
        import mujoco

        self._gl, self._model = gl, model
        self._scene, self._option = mujoco.MjvScene(model, maxgeom=100), mujoco.MjvOption()
        self._top = mujoco.MjvCamera()
        self._top.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._top.fixedcamid = model.camera(table_model.TOP_CAMERA).id
        self._people = mujoco.MjvCamera()
        self._people.lookat[:], self._people.distance = (0.02, -0.4, 0.13), 1.3
        self._people.azimuth, self._people.elevation = 106, -36
        self._plain = gl.context(model)
        self._smooth: Any = None  # made for the first rendering

    def from_above(self, data: Any, side: int, hidden: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """RGB (side, side, 3) and height in metres (side, side) of the workspace, without the hand and the letter of
        body `hidden` (-1: all are there)."""
        import mujoco

        self._option.geomgroup[:] = [i != hidden for i in range(3)] + [0, 1, 0]
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
        rgb, depth = np.empty((side, side, 3), np.uint8), np.empty((side, side), np.float32)
        self._look(data, self._top)
        self._gl.draw(self._scene, self._plain, rgb, depth)
        # of an orthographic camera, depth is 0 at NEAR, 1 at FAR, and even between them
        near, far = table_model.NEAR, table_model.FAR
        height = (table_model.CAMERA_HEIGHT - near) - (far - near) * depth[::-1].astype(np.float64)
        return rgb[::-1].copy(), np.maximum(height, 0.0).astype(np.float32)

    def rendering(self, data: Any) -> NDArray[np.uint8]:
        """(480, 480, 3): the table at an angle, with the hand and an arm that holds it."""
        import mujoco

        if self._smooth is None:
            quality, size = self._model.vis.quality, self._model.vis.global_
            before = quality.offsamples, quality.shadowsize, size.offwidth, size.offheight
            quality.offsamples, quality.shadowsize, size.offwidth, size.offheight = 4, 1024, RENDERING, RENDERING
            self._smooth = self._gl.context(self._model)
            quality.offsamples, quality.shadowsize, size.offwidth, size.offheight = before
        self._option.geomgroup[:] = [1] * 5 + [0]
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 1
        rgb = np.empty((RENDERING, RENDERING, 3), np.uint8)
        self._look(data, self._people)
        _add_arm(self._scene, data.mocap_pos[0])
        self._gl.draw(self._scene, self._smooth, rgb, None)
        return rgb[::-1].copy()

    def _look(self, data: Any, camera: Any) -> None:
        import mujoco

        everything = mujoco.mjtCatBit.mjCAT_ALL.value
        mujoco.mjv_updateScene(self._model, data, self._option, None, camera, everything, self._scene)


def _add_arm(scene: Any, tip: NDArray) -> None:
    """Two links, in the upright plane through the base and the hand, that meet above the hand."""
    import mujoco

    x, y, z = tip.tolist()
    reach, rise = hypot(x, y), z + WRIST - SHOULDER
    length = min(hypot(reach, rise), UPPER + FORE - 1e-6)
    elbow = acos(max(-1.0, min(1.0, (UPPER**2 + length**2 - FORE**2) / (2 * UPPER * length))))  # law of cosines
    angle, turn = atan2(rise, reach) + elbow, atan2(y, x)
    middle = (cos(turn) * cos(angle) * UPPER, sin(turn) * cos(angle) * UPPER, SHOULDER + sin(angle) * UPPER)
    shoulder, wrist = (0.0, 0.0, SHOULDER), (x, y, z + WRIST)
    links = (((0.0, 0.0, 0.0), shoulder, 0.065), (shoulder, middle, 0.045), (middle, wrist, 0.036))
    for start, end, radius in links:
        geom = scene.geoms[scene.ngeom]
        capsule = mujoco.mjtGeom.mjGEOM_CAPSULE
        mujoco.mjv_initGeom(geom, capsule, np.zeros(3), np.zeros(3), np.eye(3).ravel(), np.array(ARM_RGBA, np.float32))
        mujoco.mjv_connector(geom, capsule, radius, np.array(start), np.array(end))
        geom.category = mujoco.mjtCatBit.mjCAT_DECOR
        scene.ngeom += 1

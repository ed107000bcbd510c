"""Renderings of the table from the original's camera, which is MuJoCo's own free one: azimuth 90, elevation -45."""

import numpy as np
from numpy.typing import NDArray

from llmrl.envs.clevr_robot.model import PUSHER, compiled
from llmrl.envs.opengl import OpenGL

SIDE = 300  # pixels


class Renderer:
    """Draws full states off the screen. Raises ConfigError, with what to install, where nothing can be drawn."""

    def __init__(self) -> None:
        import mujoco

        self._model = compiled()
        self._data, self._camera = mujoco.MjData(self._model), mujoco.MjvCamera()
        self._scene, self._option = mujoco.MjvScene(self._model, maxgeom=50), mujoco.MjvOption()
        mujoco.mjv_defaultFreeCamera(self._model, self._camera)
        self._gl = OpenGL(SIDE, "drawing CLEVR-Robot")
        self._context = self._gl.context(self._model)

    def render(self, state: NDArray) -> NDArray[np.uint8]:
        """(69,) -> RGB (300, 300, 3)."""
        import mujoco

        self._data.qpos[:] = state[: PUSHER.stop]
        mujoco.mj_forward(self._model, self._data)
        everything = mujoco.mjtCatBit.mjCAT_ALL.value
        mujoco.mjv_updateScene(self._model, self._data, self._option, None, self._camera, everything, self._scene)
        pixels = np.empty((SIDE, SIDE, 3), np.uint8)
        self._gl.draw(self._scene, self._context, pixels, None)
        return pixels[::-1].copy()  # the lowest row comes first

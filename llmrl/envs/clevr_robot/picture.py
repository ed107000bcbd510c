"""Pictures of the table from the original's camera, which is MuJoCo's own free one: azimuth 90, elevation -45."""

import atexit
import os
import weakref
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmrl.envs.clevr_robot.model import PUSHER, compiled
from llmrl.envs.mujoco import cannot_draw, choose_renderer

SIDE = 300  # pixels


class Picture:
    """Draws full states off the screen. Raises ConfigError, with what to install, where nothing can be drawn."""

    def __init__(self) -> None:
        choose_renderer()
        import mujoco

        self._model = compiled()
        self._data, self._camera = mujoco.MjData(self._model), mujoco.MjvCamera()
        self._scene, self._option = mujoco.MjvScene(self._model, maxgeom=50), mujoco.MjvOption()
        mujoco.mjv_defaultFreeCamera(self._model, self._camera)
        # by name: what mujoco.gl_context has was chosen when mujoco was imported, perhaps by somebody else
        module = {"egl": "mujoco.egl", "osmesa": "mujoco.osmesa"}.get(os.environ.get("MUJOCO_GL", ""))
        try:
            self._gl = import_module(module or "mujoco.gl_context").GLContext(SIDE, SIDE)
            self._gl.make_current()
            self._context = mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_100)
        except Exception as error:  # PyOpenGL, EGL, GLFW and MuJoCo all have their own
            raise cannot_draw(error) from error
        close = weakref.finalize(self, _close, self._gl, self._context)
        close.atexit = False
        atexit.register(close)  # so it comes before EGL's own end, which was registered earlier

    def of(self, state: NDArray) -> NDArray[np.uint8]:
        """(69,) -> RGB (300, 300, 3)."""
        import mujoco

        self._data.qpos[:] = state[: PUSHER.stop]
        mujoco.mj_forward(self._model, self._data)
        everything = mujoco.mjtCatBit.mjCAT_ALL.value
        mujoco.mjv_updateScene(self._model, self._data, self._option, None, self._camera, everything, self._scene)
        self._gl.make_current()
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        area, picture = mujoco.MjrRect(0, 0, SIDE, SIDE), np.empty((SIDE, SIDE, 3), np.uint8)
        mujoco.mjr_render(area, self._scene, self._context)
        mujoco.mjr_readPixels(picture, None, area, self._context)
        return picture[::-1].copy()  # the lowest row comes first


def _close(gl: Any, context: Any) -> None:
    gl.make_current()
    context.free()
    gl.free()

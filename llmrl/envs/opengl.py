"""Where MuJoCo's models are drawn off the screen, for environments of our own: one OpenGL for any number of models."""

import atexit
import os
import weakref
from importlib import import_module
from typing import Any

from numpy.typing import NDArray

from llmrl.checks import ConfigError
from llmrl.envs.base import require
from llmrl.envs.mujoco import cannot_draw, choose_renderer


class OpenGL:
    """Draws models into arrays. Raises ConfigError, with what to install, where nothing can be drawn."""

    def __init__(self, side: int, purpose: str) -> None:
        """side: pixels of the window that is never shown; purpose: who wants to draw, for the error."""
        choose_renderer()
        try:
            mujoco = require("mujoco", "gymnasium[mujoco]", purpose)
            # by name: what mujoco.gl_context has was chosen when mujoco was imported, perhaps by somebody else
            module = {"egl": "mujoco.egl", "osmesa": "mujoco.osmesa"}.get(os.environ.get("MUJOCO_GL", ""))
            self._gl = import_module(module or "mujoco.gl_context").GLContext(side, side)
            self._gl.make_current()
            self._contexts = [_context(mujoco.MjModel.from_xml_string("<mujoco/>"))]
        except ConfigError:
            raise
        except Exception as error:  # PyOpenGL, EGL, GLFW and MuJoCo all have their own
            raise cannot_draw(error) from error
        close = weakref.finalize(self, _close, self._gl, self._contexts)
        close.atexit = False
        atexit.register(close)  # so it comes before EGL's own end, which was registered earlier

    def context(self, model: Any) -> Any:
        """What a model is drawn with: its meshes, and a rendering of the size and quality that it asks for."""
        self._gl.make_current()
        self._contexts.append(_context(model))
        return self._contexts[-1]

    def draw(self, scene: Any, context: Any, rgb: NDArray, depth: NDArray | None) -> None:
        """Fills rgb and depth, lowest row first."""
        import mujoco

        self._gl.make_current()
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, context)
        area = mujoco.MjrRect(0, 0, rgb.shape[1], rgb.shape[0])
        mujoco.mjr_render(area, scene, context)
        mujoco.mjr_readPixels(rgb, depth, area, context)


def _context(model: Any) -> Any:
    import mujoco

    return mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)


def _close(gl: Any, contexts: list) -> None:
    """Frees contexts where they were made: elsewhere, their numbers are those of somebody else's meshes."""
    gl.make_current()
    for context in contexts:
        context.free()
    gl.free()

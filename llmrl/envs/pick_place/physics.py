"""The world simulated by MuJoCo: letters fall, push and tilt, and images are rendered (docs/papers/explorllm.md).

The hand is moved along way-points; it has no joints and touches nothing. So with an empty hand and all at rest nothing
can change, and nothing is simulated: that is most of a pick. What is seen is drawn when it is asked for, once for each
state of the table. Positions are those of the simulator, heights those of the rendered depth.
"""

from collections.abc import Sequence
from math import ceil, cos, floor, pi, sin

import numpy as np
from numpy.typing import NDArray

from llmrl.envs.opengl import OpenGL
from llmrl.envs.pick_place.camera import RENDERING, Camera
from llmrl.envs.pick_place.letters import PIXEL
from llmrl.envs.pick_place.model import TIMESTEP, build, rgba
from llmrl.envs.pick_place.scene import (
    BOWL_HEIGHT,
    COLOURS,
    FRAME,
    HALF,
    HOME,
    LEFT,
    SLOTS,
    TOP,
    Scene,
    height_of,
    to_pixels,
)
from llmrl.envs.pick_place.world import CROP, SEAL_WINDOW, seals

HOVER = 0.20  # m above the table, from where the hand goes down
PRESS = 0.005  # m that the cup gives way: what is this much lower than the highest thing below it is touched, too
DROP = 0.070  # m from what is below the cup to its tip when it lets go; a letter 2 cm thick hangs from it
SPEED = 1.0  # m/s, the hand's on average
WAIT, FALL = 1.0, 3.0  # s that are waited at most: for what hangs to hang still, and for what falls to lie still
CHECK = 15  # simulator steps after which what has not moved lies still
STILL = 0.0003  # m, and part of a quaternion, that is no motion: letters that lie on each other never rest fully
FRAME_STEPS = 10  # simulator steps between two frames of a film: 25 a second
BORDER = CROP  # pixels around the half-resolution image, where crops reach beyond it


class Table:
    """One set of letters as a compiled model, with its state and its camera."""

    def __init__(self, gl: OpenGL, shapes: tuple[str, ...], scale: float) -> None:
        import mujoco

        self.model = build(shapes, scale)
        self.data = mujoco.MjData(self.model)
        self.camera = Camera(gl, self.model)
        self.letter_geoms = [int(self.model.body(f"letter{i}").geomadr[0]) for i in range(3)]
        self.bowl_geoms = [int(self.model.body(f"bowl{i}").geomadr[0]) for i in range(3)]
        self.bowls = [self.model.body(f"bowl{i}").id for i in range(3)]


class PhysicsWorld:
    """A `World`; world.py says what its attributes and methods are. film: renderings of all motions go to `frames`.
    Raises ConfigError where OpenGL cannot draw."""

    def __init__(self, *, film: bool) -> None:
        self._gl = OpenGL(RENDERING, "env.mode=physics")
        self._tables: dict[tuple, Table] = {}  # by letters in alphabetical order, and their scale
        self._film = film
        self.frames: list[NDArray[np.uint8]] = []

    def reset(self, scene: Scene, rng: np.random.Generator) -> None:
        import mujoco

        self._rng, self.held, self.frames = rng, -1, []
        order = sorted(range(3), key=lambda slot: scene.letters[slot])
        self._body = [order.index(slot) for slot in range(3)]  # of each slot
        key = (tuple(scene.letters[slot] for slot in order), scene.scale)
        if key not in self._tables:
            self._tables[key] = Table(self._gl, *key)
        self._table = table = self._tables[key]
        self._model, self._data = model, data = table.model, table.data
        mujoco.mj_resetData(model, data)
        for slot, (x, y) in enumerate(scene.xy.tolist()):
            if slot < 3:
                body, z, half = self._body[slot], height_of(scene.letters[slot]) / 2, float(scene.yaw[slot]) / 2
                data.qpos[7 * body : 7 * body + 7] = x, y, z, cos(half), 0, 0, sin(half)
                geom = table.letter_geoms[body]
            else:
                model.body_pos[table.bowls[slot - 3]] = x, y, BOWL_HEIGHT / 2
                geom = table.bowl_geoms[slot - 3]
            model.geom_rgba[geom] = rgba(COLOURS[scene.colours[slot]])
        self.position, self.yaw = scene.position, scene.yaw % (2 * pi)
        self.z = np.full(SLOTS, BOWL_HEIGHT / 2)
        self._moved()

    def pick(self, u: float, v: float) -> int:
        if self.held >= 0:
            self._release()
        x, y, touched, top = self._below(u, v)
        self._glide((x, y, HOVER), (x, y, top))
        if touched >= 0 and seals(self._window(u, v, SEAL_WINDOW), self._rng):
            self._attach(touched)
            self._carry((x, y, HOVER), HOME)
            self._until_still(WAIT)
            self._moved()
        else:
            self._glide((x, y, HOVER), HOME)
        return self.held

    def place(self, u: float, v: float) -> None:
        if self.held < 0:
            return
        x, y = v * PIXEL + LEFT, TOP - u * PIXEL
        below = self._seen()[1][floor(u) // 2 + BORDER, floor(v) // 2 + BORDER]
        self._carry((x, y, HOVER), (x, y, min(float(below) + DROP, HOVER)))
        self._until_still(WAIT)
        self._release()
        self._glide((x, y, HOVER), HOME)

    def crops(self, centres: Sequence[tuple[int, int]]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        rgb, height = self._seen()
        # farther out there is nothing but border
        corners = [[min(max(c + BORDER - CROP // 2, 0), HALF + BORDER) for c in centre] for centre in centres]
        cut = [(slice(u, u + CROP), slice(v, v + CROP)) for u, v in corners]
        return np.stack([rgb[part] for part in cut]), np.stack([height[part] for part in cut])

    def image(self) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        inside = slice(BORDER, BORDER + HALF)
        rgb, height = self._seen()
        return rgb[inside, inside].copy(), height[inside, inside].copy()

    def render(self) -> NDArray[np.uint8]:
        """(480, 480, 3): the table at an angle, with an arm that holds the hand."""
        self._up_to_date()
        return self._table.camera.rendering(self._data)

    # --- what is seen -----------------------------------------------------------------------------------------------

    def _moved(self) -> None:
        """Reads the letters' poses, and lets all that was drawn be drawn anew."""
        poses = self._data.qpos.reshape(3, 7)[self._body]
        self.position[:3] = to_pixels(poses[:, :2])
        self.z[:3] = poses[:, 2]
        w, i, j, k = poses[:, 3:].T
        self.yaw[:] = np.arctan2(2 * (w * k + i * j), 1 - 2 * (j * j + k * k)) % (2 * pi)
        self._half: tuple[NDArray, NDArray] | None = None
        self._fine: NDArray | None = None

    def _up_to_date(self) -> None:
        """A simulator step leaves the poses of before it; what is drawn has those of now."""
        import mujoco

        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)

    def _hidden(self) -> int:
        return -1 if self.held < 0 else self._body[self.held]

    def _seen(self) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """RGB and height of the half-resolution image with a border."""
        if self._half is None:
            self._up_to_date()
            rgb, height = self._table.camera.from_above(self._data, HALF, self._hidden())
            border = ((BORDER, BORDER), (BORDER, BORDER))
            self._half = np.pad(rgb, (*border, (0, 0))), np.pad(height, border)
        return self._half

    def _window(self, u: float, v: float, size: int) -> NDArray[np.float32]:
        """(size, size) heights in metres of the 224 frame, from row floor(u) - size / 2 on; 0 beyond its edges."""
        if self._fine is None:
            self._up_to_date()
            _, height = self._table.camera.from_above(self._data, FRAME, self._hidden())
            self._fine = np.pad(height, SEAL_WINDOW)
        row, column = (floor(x) + SEAL_WINDOW - size // 2 for x in (u, v))
        return self._fine[row : row + size, column : column + size]

    def _below(self, u: float, v: float) -> tuple[float, float, int, float]:
        """(x, y, slot, z): where a pixel is, what a cup that is lowered there touches (-1: no letter), and at which
        height. The cup is four pixels wide."""
        import mujoco

        heights = self._window(u, v, 4)
        best, highest = -1, float(heights.max()) - PRESS
        letters_only = np.array([1, 1, 1, 0, 0, 0], np.uint8)
        down, geom = np.array([0.0, 0.0, -1.0]), np.zeros(1, np.int32)
        for row, column in np.argwhere(heights > 0).tolist():
            x, y = (floor(v) - 2 + column + 0.5) * PIXEL + LEFT, TOP - (floor(u) - 2 + row + 0.5) * PIXEL
            far = mujoco.mj_ray(self._model, self._data, np.array([x, y, 1.0]), down, letters_only, 1, -1, geom)
            if far >= 0 and 1.0 - far > highest:
                best, highest = self._body.index(self._table.letter_geoms.index(geom[0])), 1.0 - far
        return v * PIXEL + LEFT, TOP - u * PIXEL, best, highest if best >= 0 else float(heights.max())

    # --- the hand ---------------------------------------------------------------------------------------------------

    def _attach(self, slot: int) -> None:
        """Welds a letter to the hand as it lies: eq_data has its position and orientation in the hand's frame."""
        body = self._body[slot]
        pose = self._data.qpos[7 * body : 7 * body + 7]
        self._model.eq_data[body, 3:6] = pose[:3] - self._data.mocap_pos[0]
        self._model.eq_data[body, 6:10] = pose[3:]  # the hand does not turn
        self._data.eq_active[body] = 1
        self.held = slot

    def _release(self) -> None:
        """Lets the held letter fall, until all lies still."""
        self._data.eq_active[self._body[self.held]] = 0
        self.held = -1
        self._until_still(FALL)
        self._moved()

    def _path(self, goals: Sequence[Sequence[float]]) -> NDArray[np.float64]:
        """(steps, 3) the hand's tip after each simulator step, past one goal after another, standing at each."""
        start, parts = self._data.mocap_pos[0].copy(), []
        for goal in np.array(goals):
            steps = max(1, ceil(float(np.linalg.norm(goal - start)) / SPEED / TIMESTEP))
            done = (1 - np.cos(np.linspace(0, pi, steps + 1)[1:])) / 2
            parts.append(start + done[:, None] * (goal - start))
            start = goal
        return np.concatenate(parts)

    def _carry(self, *goals: Sequence[float]) -> None:
        """Moves the hand with what it holds."""
        import mujoco

        for i, tip in enumerate(self._path(goals)):
            self._data.mocap_pos[0] = tip
            mujoco.mj_step(self._model, self._data)
            self._film_every(i)

    def _glide(self, *goals: Sequence[float]) -> None:
        """Moves the empty hand, which moves nothing else."""
        if self._film:
            for i, tip in enumerate(self._path(goals)):
                self._data.mocap_pos[0] = tip
                self._film_every(i)
        self._data.mocap_pos[0] = goals[-1]

    def _until_still(self, seconds: float) -> None:
        """Simulates until all letters keep their poses for CHECK steps, or for `seconds`."""
        import mujoco

        before = self._data.qpos.copy()
        for i in range(1, round(seconds / TIMESTEP) + 1):
            mujoco.mj_step(self._model, self._data)
            self._film_every(i)
            if i % CHECK == 0:
                if np.abs(self._data.qpos - before).max() < STILL:
                    return
                before = self._data.qpos.copy()

    def _film_every(self, step: int) -> None:
        if self._film and step % FRAME_STEPS == 0:
            self.frames.append(self.render())

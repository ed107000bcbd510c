"""The pick-and-place table as a MuJoCo model: a plane, three free letters, three fixed bowls, and a hand that is moved.

Source: docs/papers/explorllm.md. A letter is one mesh, of a prism for each convex piece: it is drawn with
its holes, and collides as MuJoCo lets every mesh collide, as its convex hull, as in the authors' simulator. The hand
touches nothing; a weld, off until suction holds, ties a letter to it.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmrl.envs.pick_place import letters
from llmrl.envs.pick_place.scene import BACKGROUND, BOWL_HEIGHT, FRAME, HOME, TOP, height_of

TIMESTEP = 0.004  # s
LETTER_MASS, BLOCK_MASS = 0.1, 0.01  # kg
# Friction: to slide, to spin, to roll. Contacts are stiffer than MuJoCo's own, in which letters sink by half a
# millimetre.
SURFACE = {"friction": [1.0, 0.005, 0.0001], "solref": [0.01, 1.0], "solimp": [0.98, 0.99, 0.001, 0.5, 2.0]}
HAND_GROUP, TABLE_GROUP, FEET_GROUP = 3, 4, 5  # groups of what is drawn; the body i of three letters is group i
FOOT, BLUNT = 0.002, 0.006  # m, radius of the spheres that a letter stands on, and how well they follow its hull
LOWER = 2e-6  # m
TABLE_BITS = {"contype": 2, "conaffinity": 2}  # the table collides with the feet alone
FEET_BITS = {"contype": 2, "conaffinity": 0}  # and the feet with nothing else
CAMERA_HEIGHT = 1.0  # m
NEAR, FAR = 0.05, 6.0  # m, of all cameras
TOP_CAMERA = "top"


def build(shapes: tuple[str, ...], scale: float) -> Any:
    """MjModel with the bodies letter0-2, which have these shapes, bowl0-2 and hand, and the welds weld0-2. Where things
    are and which colours they have is set later: it differs by episode, and compiling takes longer than an episode."""
    import mujoco

    spec = mujoco.MjSpec()
    spec.option.timestep = TIMESTEP
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.stat.extent = 1.0  # near and far are then in metres
    spec.visual.map.znear, spec.visual.map.zfar = NEAR, FAR
    spec.visual.global_.offwidth = spec.visual.global_.offheight = FRAME
    spec.visual.quality.offsamples = spec.visual.quality.shadowsize = 0
    _surroundings(spec)
    world = spec.worldbody
    hand = world.add_body(name="hand", mocap=True, pos=HOME)
    _hand(hand)
    for i, shape in enumerate(shapes):
        _letter(spec, i, shape, scale)
        bowl = world.add_body(name=f"bowl{i}")
        size = [letters.BOWL_RADIUS / 1000, BOWL_HEIGHT / 2, 0]
        bowl.add_geom(type=mujoco.mjtGeom.mjGEOM_CYLINDER, size=size, group=TABLE_GROUP, **SURFACE)
        weld = spec.add_equality(name=f"weld{i}", type=mujoco.mjtEq.mjEQ_WELD, active=False)
        weld.objtype, weld.name1, weld.name2 = mujoco.mjtObj.mjOBJ_BODY, "hand", f"letter{i}"
        weld.data = [0.0] * 10 + [1.0]  # no anchor, a pose that is set later, and as stiff in turning as in moving
    return spec.compile()


def _surroundings(spec: Any) -> None:
    """Table, light and cameras. The light falls straight down and adds up to 1 with the ambient one, so that whatever
    lies flat has exactly its own colour from above, while sides are darker in the rendering for people."""
    import mujoco

    lamp = spec.visual.headlight  # MuJoCo's light without a place or shadows
    lamp.ambient, lamp.diffuse, lamp.specular = [0.5] * 3, [0] * 3, [0] * 3
    world = spec.worldbody
    world.add_light(
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL, pos=[0, -0.5, 2], dir=[0, 0, -1],
        ambient=[0] * 3, diffuse=[0.5] * 3, specular=[0] * 3, castshadow=True,
    )  # fmt: skip
    world.add_geom(
        type=mujoco.mjtGeom.mjGEOM_PLANE, size=[2, 2, 0.1], pos=[0, -0.5, 0], rgba=rgba(BACKGROUND),
        group=TABLE_GROUP, **TABLE_BITS, **SURFACE,
    )  # fmt: skip
    spec.add_texture(
        name="sky", type=mujoco.mjtTexture.mjTEXTURE_SKYBOX, builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=[0.75, 0.8, 0.85], rgb2=[0.35, 0.38, 0.42], width=64, height=384,
    )  # fmt: skip
    side = FRAME * letters.PIXEL  # of the square that the camera sees; it is orthographic: fovy is in metres
    camera = world.add_camera(name=TOP_CAMERA, pos=[0, TOP - side / 2, CAMERA_HEIGHT], fovy=side)
    camera.proj = mujoco.mjtProjection.mjPROJ_ORTHOGRAPHIC


def _hand(hand: Any) -> None:
    """A suction cup with its tube and flange; the body's origin is the tip."""
    import mujoco

    cylinder, grey = mujoco.mjtGeom.mjGEOM_CYLINDER, [0.55, 0.57, 0.6, 1]
    for radius, bottom, top, colour in (
        (0.010, 0.0, 0.008, [0.95, 0.95, 0.95, 1]),
        (0.005, 0.008, 0.10, grey),
        (0.028, 0.10, 0.13, [0.2, 0.35, 0.6, 1]),
    ):
        hand.add_geom(
            type=cylinder, size=[radius, (top - bottom) / 2, 0], pos=[0, 0, (top + bottom) / 2], rgba=colour,
            contype=0, conaffinity=0, group=HAND_GROUP,
        )  # fmt: skip


def _letter(spec: Any, i: int, shape: str, scale: float) -> None:
    """A free body whose origin is the middle of the letter's box. Its inertia is that of the box: MuJoCo's own would be
    that of the convex hull, with another middle."""
    import mujoco

    height, mass = height_of(shape), BLOCK_MASS if shape == "block" else LETTER_MASS
    mesh = spec.add_mesh(name=f"letter{i}", inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_CONVEX)
    triangles = prisms(letters.pieces(shape, scale), height)
    mesh.uservert, mesh.userface = triangles.ravel(), np.arange(len(triangles) * 3)
    body = spec.worldbody.add_body(name=f"letter{i}")
    body.add_freejoint()
    body.add_geom(type=mujoco.mjtGeom.mjGEOM_MESH, meshname=f"letter{i}", group=i, **SURFACE)
    sphere = dict(type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[FOOT, 0, 0], group=FEET_GROUP, **FEET_BITS, **SURFACE)
    for x, y in feet(triangles.reshape(-1, 3)[:, :2]).tolist():
        for z in (FOOT - height / 2, height / 2 - FOOT):
            body.add_geom(pos=[x, y, z], **sphere)
    x, y, z = np.ptp(triangles.reshape(-1, 3), axis=0)
    body.explicitinertial, body.mass, body.ipos = True, mass, [0, 0, 0]
    body.inertia = np.array([y**2 + z**2, x**2 + z**2, x**2 + y**2]) * mass / 12


def prisms(pieces: list[NDArray], height: float) -> NDArray[np.float64]:
    """Triangles (n, 3, 3) of prisms over convex pieces, from -height / 2 to height / 2, counter-clockwise as seen
    from outside. No two share a corner, so that each keeps its own normal and flat things look flat. Each prism is
    LOWER than the one before: where two overlap, light would count twice on tops of equal height."""
    triangles = []
    for number, piece in enumerate(pieces):
        x, y = piece.T
        if np.dot(x, np.roll(y, -1)) < np.dot(y, np.roll(x, -1)):  # clockwise
            piece = piece[::-1]
        top = height / 2 - number * LOWER
        low, high = (np.column_stack([piece, np.full(len(piece), z)]) for z in (-height / 2, top))
        for i in range(1, len(piece) - 1):
            triangles += [(high[0], high[i], high[i + 1]), (low[0], low[i + 1], low[i])]
        for i in range(len(piece)):
            j = (i + 1) % len(piece)
            triangles += [(low[i], low[j], high[j]), (low[i], high[j], high[i])]
    return np.array(triangles)


def feet(points: NDArray) -> NDArray[np.float64]:
    """Where a letter stands on the table: the corners (n, 2) of its convex hull, as few as are within BLUNT of it. It
    is the hull's underside; MuJoCo itself would support a mesh on a plane at three corners that change, and it would
    never come to rest."""
    import cv2

    outline = cv2.convexHull(points.astype(np.float32))
    corners = cv2.approxPolyDP(outline, BLUNT, True)[:, 0].astype(np.float64)
    return corners * (1 - FOOT / np.linalg.norm(corners, axis=1, keepdims=True))


def rgba(rgb: tuple[int, int, int]) -> list[float]:
    """A colour of 0-255 as MuJoCo takes it."""
    return [*(value / 255 for value in rgb), 1.0]

"""Tables of the analytic simulator to test programs on: observations, and where on an object a pick would hold.

A candidate's score is the probability that a pick, drawn from its map, seals.
"""

import struct
import zlib
from base64 import b64encode
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmrl.envs import pick_place
from llmrl.methods.explorllm.program import CROP, Programs, Seen
from llmrl.methods.explorllm.program_policy import seen_in
from llmrl.runs import seeding

PIXELS = 2  # pixels of the 224 frame in one of a crop


def seen_tables(env_config: Any, n: int, seed: int) -> Seen:
    """n tables as they stand at the start; every second one with its object 0 in the hand."""
    env = pick_place.PickPlace(env_config)
    rng = seeding.generator(seed, "tables")
    observations = []
    for i in range(n):
        obs, _ = env.reset(seed=seeding.integer(seed, "tables", i))
        observations.append(obs)
    obs = {key: np.stack([o[key] for o in observations]) for key in observations[0]}
    obs["in_hand"][1::2] = 1
    obs["position"][1::2, 0] = np.array(pick_place.scene.HOME_PIXEL) / pick_place.scene.FRAME
    return seen_in(obs, rng.random((n, 3)))


def sealing(env_config: Any, n: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """(n, 28, 28, 3) crops of objects to pick, and (n, 28, 28): whether a pick at each pixel
    of the crop takes that object."""
    env = pick_place.PickPlace(env_config)
    crops, holds = np.empty((n, CROP, CROP, 3), np.uint8), np.zeros((n, CROP, CROP), bool)
    offsets = PIXELS * (np.arange(CROP) - CROP // 2)
    for i in range(n):
        obs, _ = env.reset(seed=seeding.integer(seed, "sealing", i))
        slot = i % 3
        crops[i] = obs["rgb"][slot]
        # the crop's pixel (14, 14) begins at half the detected position
        corner = np.rint(obs["position"][slot] * pick_place.scene.FRAME).astype(int) // 2 * 2
        rows, columns = (np.clip(corner[axis] + offsets + 1, 0, pick_place.scene.FRAME - 1) for axis in (0, 1))
        for row, column in np.argwhere(_near(crops[i])):
            if env.world.pick(float(rows[row]), float(columns[column])) >= 0:
                holds[i, row, column] = env.world.held == slot
                env.world.reset(env.scene, env.np_random)
    return crops, holds


def _near(crop: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(28, 28): pixels at most two from anything that lies on the table; no pick succeeds at others."""
    there = np.pad((crop != pick_place.scene.BACKGROUND).any(axis=2), 2)
    windows = np.lib.stride_tricks.sliding_window_view(there, (5, 5))
    return np.any(windows, axis=(2, 3))


def score(programs: Programs, crops: NDArray[np.uint8], holds: NDArray[np.bool_]) -> dict[str, Any]:
    """How likely a pick by a candidate's map holds, as it is drawn and at its highest; and what failed, by name.
    A map that fails counts as the uniform one, as in exploration. Raises SandboxFailure."""
    maps, faults = programs.maps_of(crops)
    flat, held = maps.reshape(len(maps), -1), holds.reshape(len(holds), -1)
    drawn = (flat * held).sum(axis=1) / flat.sum(axis=1)
    highest = held[np.arange(len(held)), flat.argmax(axis=1)]
    failed = [name for name in faults if name]
    return {
        "stochastic": round(float(drawn.mean()), 6), "argmax": round(float(highest.mean()), 6),
        "failures": {name: failed.count(name) for name in sorted(set(failed))},
    }  # fmt: skip


# --- images for a language model --------------------------------------------------------------------------------------


def png_url(crop: NDArray[np.uint8], zoom: int) -> str:
    """A crop as a PNG in a data URL, enlarged; uncompressed, since the bytes must be the same on every machine."""
    large = crop.repeat(zoom, axis=0).repeat(zoom, axis=1)
    colours, index = np.unique(large.reshape(-1, 3), axis=0, return_inverse=True)
    rows = np.pad(index.reshape(large.shape[:2]).astype(np.uint8), ((0, 0), (1, 0)))  # a row begins with its filter, 0
    size = struct.pack(">IIBBBBB", large.shape[1], large.shape[0], 8, 3, 0, 0, 0)  # 8 bits, palette
    parts = ((b"IHDR", size), (b"PLTE", colours.tobytes()), (b"IDAT", zlib.compress(rows.tobytes(), 0)), (b"IEND", b""))
    chunks = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in parts]
    return "data:image/png;base64," + b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(chunks)).decode()


def letter_crops(env_config: Any, seed: int) -> list[tuple[str, NDArray[np.uint8]]]:
    """A crop of each shape of the task, with its name ("yellow letter O"), and one of a bowl."""
    env = pick_place.PickPlace(env_config)
    found: dict[str, tuple[str, NDArray[np.uint8]]] = {}
    episode = 0
    while set(found) != set(env_config.letters):
        obs, _ = env.reset(seed=seeding.integer(seed, "pictures", episode))
        episode += 1
        for slot, name in enumerate(env.scene.letters):
            found.setdefault(name, (pick_place.task.thing(env.scene, slot), obs["rgb"][slot]))
    shapes = [found[name] for name in dict.fromkeys(env_config.letters)]
    return [*shapes, (pick_place.task.thing(env.scene, 3), obs["rgb"][3])]

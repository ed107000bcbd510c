"""`llm=scripted` for ExploRLLM: our own programs. A planner for each horizon, one program for places, and six for picks
of very different quality, one of them broken, so that scoring has something to tell apart.

The picks follow the kinds that the paper's figure shows (docs/papers/explorllm.md): edges, flat, a box, and the
distance inside the outer contour, raw and clipped. None of them knows of holes, as the paper's winner does not.
"""

import re

from llmrl.methods.explorllm import scripted_words

ORDER = ("edge", "flat", "broken", "box", "peaked", "clipped")  # of the picks, by the call's number


def planner(messages: list[dict], index: str) -> str:
    text = _text(messages)
    if "of its own colour" not in text:
        return _reply("The goal is one object and one bowl.", SHORT)
    near = 10 if "three blocks" in text else 15  # pixels; the authors' values
    return _reply("Objects that lie at their bowl are done.", LONG.replace("NEAR_PIXELS", str(near)))


def affordance(messages: list[dict], index: str) -> str:
    kind = ORDER[int(re.findall(r"\d+", index)[0]) % len(ORDER)]
    idea, body = PICKS[kind]
    return _reply(idea, f"{MASK}\n\n{body}")


def place_map(messages: list[dict], index: str) -> str:
    return _reply("The more of the object lies on the bowl, the better.", f"{MASK}\n\n{PLACE}")


def _reply(idea: str, code: str) -> str:
    return f"(A scripted answer, by no language model.) {idea}\n\n```python\n{code.strip()}\n```\n"


def _text(messages: list[dict]) -> str:
    """All text of the messages, without images."""
    parts = [m["content"] if isinstance(m["content"], list) else [{"text": m["content"]}] for m in messages]
    return "\n".join(part.get("text", "") for content in parts for part in content)


SHORT = """
def planner(held, positions, wanted):
    item, bowl = wanted[0]
    if held == item:
        return 1, bowl
    return 0, item  # a pick drops what is held by mistake
"""

LONG = """
import numpy as np

NEAR = NEAR_PIXELS


def planner(held, positions, wanted):
    for item, bowl in wanted:
        if held == item:
            return 1, bowl
    for item, bowl in wanted:
        if np.hypot(*(positions[item] - positions[bowl])) > NEAR:
            return 0, item
    return 0, wanted[0][0]  # all seem done, but the task goes on: try one again
"""

# What is brighter than the table, and of that the largest connected part. Sets of pixels are the bits of one whole
# number, with an empty frame around them, so that a set grows in all directions by a few shifts.
MASK = """
import numpy as np

THRESHOLD = 100
WIDTH = 30


def to_bits(mask):
    return int.from_bytes(np.packbits(np.pad(mask, 1)).tobytes(), "big")


def to_mask(bits):
    cells = np.unpackbits(np.frombuffer(bits.to_bytes(113, "big"), np.uint8))[: WIDTH * WIDTH]
    return cells.reshape(WIDTH, WIDTH)[1:-1, 1:-1].astype(bool)


def bright(crop):
    return crop @ np.array([0.299, 0.587, 0.114]) > THRESHOLD


def connected(seed, bits):
    for _ in range(WIDTH * WIDTH):
        row = seed | seed << 1 | seed >> 1
        grown = (row | row << WIDTH | row >> WIDTH) & bits
        if grown == seed:
            break
        seed = grown
    return seed


def object_bits(crop):
    bits, largest = to_bits(bright(crop)), 0
    while bits:
        part = connected(bits & -bits, bits)
        largest = max(largest, part, key=int.bit_count)
        bits ^= part
    return largest
"""

# The outer contour, filled: all that the outside does not reach.
INSIDE = """
ALL = (1 << WIDTH * WIDTH) - 1 << 4


def filled(bits):
    free = ALL & ~bits
    outside = 1 << 4
    for _ in range(WIDTH * WIDTH):
        grown = (outside | outside << 1 | outside >> 1 | outside << WIDTH | outside >> WIDTH) & free
        if grown == outside:
            break
        outside = grown
    return to_mask(ALL & ~outside)
"""

DEPTH = """

def depth_inside(shape):
    framed = np.pad(shape, 1)
    steps = np.arange(WIDTH, dtype=np.int16)
    squared = (steps[:, None] - steps) ** 2
    column = np.where(framed, np.int16(10000), squared[:, :, None]).min(axis=1)
    nearest = (column[:, None, :] + squared).min(axis=2)
    return np.maximum(np.sqrt(nearest)[1:-1, 1:-1] - 1, 0)
"""

PICKS = {
    "edge": ("An object is found by its edges.", """
def affordance(crop):
    gray = crop @ np.array([0.299, 0.587, 0.114])
    down, right = np.gradient(gray)
    edges = np.hypot(down, right)
    return edges / edges.sum()
"""),
    "flat": ("Any place inside the object's contour will do.", INSIDE + """

def affordance(crop):
    shape = filled(object_bits(crop))
    return shape / shape.sum()
"""),
    "broken": ("The object's middle, by its moments.", """
def affordance(crop):
    mask = to_mask(object_bits(crop))
    rows, columns = np.nonzero(mask)
    score = np.zeros(mask.shape)
    score[int(rows.mean()), columns.mean()] = 1.0
    return score
"""),
    "box": ("The object lies in its bounding box.", """
def affordance(crop):
    rows, columns = np.nonzero(to_mask(object_bits(crop)))
    score = np.zeros(crop.shape[:2])
    score[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = 1.0
    return score / score.sum()
"""),
    "peaked": ("The farther inside its outline, the better.", INSIDE + DEPTH + """

def affordance(crop):
    depth = depth_inside(filled(object_bits(crop)))
    return depth / depth.sum()
"""),
    "clipped": ("Well inside its outline, and beyond three pixels all is alike.", INSIDE + DEPTH + """

def affordance(crop):
    depth = np.minimum(depth_inside(filled(object_bits(crop))), 3)
    return depth / depth.sum()
"""),
}  # fmt: skip

PLACE = """
def place_map(picked, bowl):
    item, target = (to_mask(object_bits(crop)).astype(float) for crop in (picked, bowl))
    size = (2 * item.shape[0], 2 * item.shape[1])
    product = np.fft.rfft2(target, size) * np.conj(np.fft.rfft2(item, size))
    shifted = np.round(np.fft.irfft2(product, size))
    rows, columns = item.shape
    overlap = np.roll(shifted, (rows // 2, columns // 2), axis=(0, 1))[:rows, :columns]
    return overlap / overlap.sum()
"""

RULES = {
    "explorllm.planner": planner,
    "explorllm.affordance": affordance,
    "explorllm.place": place_map,
    **scripted_words.RULES,
}

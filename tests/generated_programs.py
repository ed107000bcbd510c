"""Programs as language models write them for LESR and ExploRLLM: all of them must pass the gate, and run.

The style is that of answers to the prompts: imports and helpers of many kinds, some clumsy, none hostile.
"""

STATE_PROGRAMS = {
    "concatenate": """
import numpy as np

def revise_state(s):
    energy = 0.5 * np.sum(np.square(s[8:17]))
    height, angle = s[0], s[1]
    return np.concatenate((s, [energy, height * np.cos(angle)]))

def intrinsic_reward(updated_s):
    return updated_s[8] - 0.1 * updated_s[-1]
""",
    "annotated": '''
import numpy as np
import math
from typing import List, Optional, Tuple


def safe_divide(a: float, b: float, eps: float = 1e-8) -> float:
    """Divides, now and always, without a division by zero."""
    return a / (b + eps) if abs(b) > eps else 0.0


def split(s: np.ndarray, at: Optional[int] = None) -> Tuple[np.ndarray, List[float]]:
    return s[:at], list(s[at:])


def revise_state(s: np.ndarray) -> np.ndarray:
    if not isinstance(s, np.ndarray):
        s = np.array(s, dtype=np.float64)
    ratio: float = safe_divide(s[8], s[9])
    features: list[float] = [ratio, math.tanh(s[3]), math.hypot(s[1], s[2])]
    return np.append(s, np.array(features)).astype(np.float64)


def intrinsic_reward(updated_s: np.ndarray) -> float:
    forward_velocity = float(updated_s[8])
    penalty = np.clip(np.linalg.norm(updated_s[11:17]), 0.0, 5.0)
    return float(forward_velocity - 0.05 * penalty)
''',
    "constants": """
import numpy as np

GOAL = np.array([1.0, 0.5, -0.2])
JOINTS = np.array([2, 3, 4, 5])
WEIGHTS = (0.5, 0.3, 0.2)
EPS = np.finfo(np.float64).eps
GRAVITY: float = -9.81
DEG = np.pi / 180
LIMITS = (-0.5 * np.pi, 0.5 * np.pi)
SPAN = LIMITS[1] - LIMITS[0]
HALF = np.sqrt(2) / 2
INDEX = tuple(range(3, 6))

def distance(a, b=GOAL):
    return np.linalg.norm(a - b)

def revise_state(s):
    to_goal = distance(s[:3])
    bent = s[JOINTS] * DEG
    inside = np.logical_and(bent > LIMITS[0], bent < LIMITS[1]).astype(float)
    return np.hstack([s, to_goal, inside, s[list(INDEX)] / (SPAN + EPS)])

def intrinsic_reward(updated_s):
    return sum(w * x for w, x in zip(WEIGHTS, updated_s[17:20])) * HALF + 0.01 * GRAVITY
""",
    "import_names": """
from math import sqrt, pi as PI
from numpy import array, concatenate, linalg as la, sin as sine
import numpy as xx
import numpy.linalg

def revise_state(s):
    return concatenate([s, array([sine(s[0] * PI), sqrt(abs(s[1])), la.norm(s[2:5]), numpy.linalg.norm(s[5:8])])])

def intrinsic_reward(updated_s):
    return float(xx.mean(updated_s[-3:]))
""",
    "import_inside": """
def revise_state(s):
    import numpy as np
    import math
    return np.r_[s, math.sin(s[0]), np.exp(-s[1] ** 2)]

def intrinsic_reward(updated_s):
    import numpy
    return numpy.tanh(updated_s[-1])
""",
    "writes": """
import numpy as np

def revise_state(s):
    s = s.copy()
    s[0] = s[0]
    extra = np.zeros(6)
    extra[0] = s[8]
    extra[1:3] += s[9:11]
    extra[3] *= 2.0
    extra[extra > 1] = 1.0
    grid = np.empty((2, 2))
    grid[0, :] = s[:2]
    grid[1] = [s[2], s[3]]
    grid.T[0, 0] -= 1.0
    return np.concatenate([s, extra, grid.ravel()])

def intrinsic_reward(updated_s):
    total = 0.0
    total += updated_s[17]
    total -= 0.1 * abs(updated_s[18])
    return total
""",
    "lists": """
import numpy as np

def revise_state(s):
    features = []
    for i in range(2, 8):
        features.append(s[i] * s[i + 6])
    features.extend([max(s[2:8]), min(s[2:8])])
    features.insert(0, np.mean(s))
    while len(features) > 6:
        features.pop()
    features[1] = 0.5 * features[1]
    features.sort()
    return np.array(list(s) + features)

def intrinsic_reward(updated_s):
    head, *middle, last = updated_s[17:]
    return float(head - last + 0.0 * len(middle))
""",
    "dictionary": """
import numpy as np

def revise_state(s):
    parts = {"height": s[0], "angle": s[1], "M": 1.0}
    parts["velocity"] = s[8]
    parts.update(jerk=float(np.diff(s[8:12]).sum()))
    legs = {name: slice(2 + 3 * i, 5 + 3 * i) for i, name in enumerate(("left", "right"))}
    for name, where in legs.items():
        parts[f"{name}_bend"] = np.abs(s[where]).sum()
    counted = {}
    for value in s:
        counted[value > 0] = counted.get(value > 0, 0) + 1
    parts.setdefault("up", counted.get(True, 0))
    return np.concatenate((s, np.array([parts[k] for k in sorted(parts.keys())])))

def intrinsic_reward(updated_s):
    return updated_s[17]
""",
    "nested": """
import numpy as np

def revise_state(s):
    scale = 2.0

    def squash(x, k=0.5):
        return np.tanh(k * scale * x)

    pairs = [(i, j) for i in range(3) for j in range(i + 1, 3) if s[i] != s[j]]
    products = np.array([squash(s[i] * s[j]) for i, j in pairs] or [0.0, 0.0, 0.0])
    wave = (lambda x, f=3.0: np.sin(f * x))(s[0])
    return np.concatenate([s, np.resize(products, 3), [wave]])

def intrinsic_reward(updated_s):
    best = max(range(17), key=lambda i: updated_s[i])
    return float(best) * 0.01
""",
    "tries": """
import numpy as np

def _angle(y, x):
    try:
        return float(np.arctan2(y, x))
    except (ValueError, ZeroDivisionError) as error:
        print(f"strange: {error}")
        return 0.0
    finally:
        pass

def revise_state(s):
    assert s.ndim == 1, "a vector is needed, got " + str(s.shape)
    if s.shape[0] < 17:
        raise ValueError(f"only {s.shape[0]} dimensions, {s.dtype} {s[0]:.3f} m")
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.divide(s[2:5], s[5:8], out=np.zeros_like(s[2:5]), where=s[5:8] != 0)
    return np.concatenate([s, ratio, [_angle(s[0], s[1])]])

def intrinsic_reward(updated_s):
    try:
        return float(1.0 / (1.0 + np.exp(-updated_s[17])))
    except:
        return 0.0
""",
    "shadowing": """
import numpy as np

def blend(type, id, dir=0.5, open=1.0):
    sum = type * dir + id * (1 - dir)
    return sum * open

def revise_state(s):
    input = s[0]
    vars = [float(x) for x in s[1:4]]
    max, min = np.max(s), np.min(s)
    type = blend(input, vars[0], open=max - min)
    return np.concatenate([s, [type, input, *vars]])

def intrinsic_reward(state):
    next, hash = state[17], state[18]
    return next + hash
""",
    "statistics": """
import numpy as np

def revise_state(s):
    velocities = s[8:]
    f = [velocities.mean(), velocities.std(), np.median(velocities), np.percentile(velocities, 75),
         velocities.max() - velocities.min(), np.var(s[:8]), s.argmax(), np.ptp(s), np.count_nonzero(s > 0)]
    autocorrelation = np.correlate(velocities, velocities, mode="same")[:2]
    histogram, _ = np.histogram(s, bins=4, range=(-1, 1))
    return np.concatenate((s, f, autocorrelation, histogram, np.cumsum(s)[-1:], np.nan_to_num(np.log(np.abs(s[:1])))))

def intrinsic_reward(updated_s):
    return -float(np.std(updated_s[8:17]))
""",
    "linear_algebra": """
import numpy as np

def rotation(angle):
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s], [s, c]])

def revise_state(s):
    turned = rotation(s[1]) @ s[2:4]
    cross = np.cross(s[2:5], s[5:8])
    m = np.outer(s[:3], s[:3]) + np.eye(3)
    values, vectors = np.linalg.eigh(m)
    solved = np.linalg.solve(m, s[3:6])
    u, w, vt = np.linalg.svd(m)
    inverse = np.linalg.inv(m).diagonal()
    return np.concatenate([s, turned, cross, values, solved, w, inverse, [np.linalg.det(m), np.trace(m)],
                           np.einsum("ij,j->i", m, s[:3]), np.dot(m, s[:3]), np.kron(s[:2], s[2:4])])

def intrinsic_reward(updated_s):
    return float(np.linalg.norm(updated_s[17:19], ord=2))
""",
    "spectrum": """
import numpy as np

def revise_state(s):
    spectrum = np.fft.rfft(s[8:16])
    power = np.abs(spectrum) ** 2
    phase = np.angle(spectrum)
    return np.concatenate((s, power / (power.sum() + 1e-6), phase.real, np.fft.fftfreq(8)[:2]))

def intrinsic_reward(updated_s):
    return updated_s[17:22].max()
""",
    "quaternion": """
import numpy as np

def quaternion_to_euler(q):
    w, x, y, z = q / (np.linalg.norm(q) + 1e-9)
    roll = np.arctan2(2 * (w * x + y * z), 1 - 2 * (x * x + y * y))
    pitch = np.arcsin(np.clip(2 * (w * y - z * x), -1.0, 1.0))
    yaw = np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
    return roll, pitch, yaw

def revise_state(s):
    roll, pitch, yaw = quaternion_to_euler(s[1:5])
    return np.array([*s, roll, pitch, yaw, np.rad2deg(roll), 1 - 2 * (s[2] ** 2 + s[3] ** 2)])

def intrinsic_reward(updated_s):
    roll, pitch = updated_s[-5:-3]
    return -(abs(roll) + abs(pitch))
""",
    "piecewise": """
import numpy as np

def revise_state(s):
    signs = np.where(s > 0, 1.0, -1.0)
    levels = np.select([s < -0.5, s < 0.5], [-1.0, 0.0], default=1.0)
    bins = np.digitize(s[:3], np.linspace(-1, 1, 5))
    steps = np.piecewise(s[:2], [s[:2] < 0, s[:2] >= 0], [lambda x: -x, lambda x: x * 2])
    reached = bool((np.abs(s[0]) < 0.1) & (np.abs(s[1]) < 0.1))
    return np.concatenate([s, signs, levels, bins, steps, [float(reached), np.heaviside(s[0], 0.5)]])

def intrinsic_reward(updated_s):
    if updated_s[0] > 0.7 and -0.2 < updated_s[1] < 0.2:
        return 1.0
    elif updated_s[0] > 0.5:
        return 0.5
    else:
        return -1.0 if updated_s[1] > 0 else 0.0
""",
    "polynomial": """
import numpy as np
from math import comb, factorial, floor, log1p

def revise_state(s):
    slope, offset = np.polyfit(np.arange(9), s[8:17], 1)
    basis = [comb(3, k) * s[0] ** k * (1 - s[0]) ** (3 - k) for k in range(4)]
    value = np.polyval([1.0, -2.0, 0.5], s[1])
    series = sum((-1) ** n * s[2] ** (2 * n) / factorial(2 * n) for n in range(4))
    return np.concatenate((s, [slope, offset, value, series, floor(s[3]), log1p(abs(s[4]))], basis))

def intrinsic_reward(updated_s):
    return np.float64(updated_s[17])
""",
    "vectorised": """
import numpy as np

def soft(x):
    return x / (1 + abs(x))

def revise_state(s):
    v = np.vectorize(soft)(s[:4])
    w = np.apply_along_axis(np.sum, 0, s[:6].reshape(2, 3))
    h = np.add.reduce(s) + np.maximum.accumulate(s)[-1] + np.multiply.outer(s[:2], s[:2]).sum()
    y = np.fromiter((x * x for x in s[:3]), dtype=float)
    z = np.interp(s[0], [-1, 0, 1], [0.0, 0.5, 1.0])
    for i, x in np.ndenumerate(v):
        v[i] = x + 1e-3
    return np.concatenate((s, v, w, [h, z], y))

def intrinsic_reward(updated_s):
    return np.dot(updated_s[17:20], np.ones(3)).item()
""",
    "walrus": """
import numpy as np

def revise_state(s):
    if (n := np.linalg.norm(s[2:8])) > 1.0:
        scaled = s[2:8] / n
    else:
        scaled = s[2:8]
    doubled = [y := x * 2 for x in scaled[:2]]
    return np.concatenate([s, scaled, doubled, [y, n]])

def intrinsic_reward(updated_s):
    return updated_s[-1]
""",
    "sets_and_texts": """
import numpy as np

NAMES = ("torso", "thigh", "leg")

def revise_state(s):
    seen = set()
    for x in s:
        seen.add(int(x * 10))
    label = ", ".join(name.upper() for name in NAMES)
    text = "{:.2f} of {}".format(s[0], label) if label.startswith("T") else "%d" % 3
    return np.concatenate((s, [len(seen), len(text.split()), len(seen & {0, 1}), NAMES.index("leg")]))

def intrinsic_reward(updated_s):
    return float(updated_s[17] in (1, 2, 3))
""",
    "loops": """
import numpy as np

def revise_state(s):
    n, x, count = len(s), s[0], 0
    while abs(x) > 1e-3 and count < 20:
        x = x / 2
        count += 1
    for i, (a, b) in enumerate(zip(s[:-1], s[1:])):
        if a < b:
            continue
        if i > 10:
            break
    else:
        i = -1
    signs = list(map(lambda v: 1 if v > 0 else -1, s))
    flips = sum(1 for p, q in zip(signs, signs[1:]) if p != q)
    ok = all(v < 10 for v in s) and any(filter(lambda v: v > 0, s))
    return np.concatenate((s, [count, i, flips, float(ok), n]))

def intrinsic_reward(updated_s):
    reward = 0
    for v in reversed(updated_s[17:]):
        reward = 0.9 * reward + v
    return reward
""",
    "helpers_of_helpers": """
import numpy as np

sigmoid = lambda x: 1.0 / (1.0 + np.exp(-x))
ACTIVATION = sigmoid
SCALES = 2.0 if len((1, 2)) > 1 else 1.0

def gaussian(x, mu=0.0, sigma=1.0):
    return np.exp(-0.5 * ((x - mu) / sigma) ** 2)

def both(x, functions=(sigmoid, gaussian)):
    return [f(x) for f in functions]

def revise_state(s, *args, scale=1.0, **kwargs):
    values = np.array(both(s[0]) + both(s[1])) * scale
    return np.concatenate([s, values])

def intrinsic_reward(updated_s):
    return ACTIVATION(updated_s[17]) * SCALES
""",
    "cases": """
import numpy as np

def revise_state(s):
    s = np.asarray(s, dtype='float64').flatten()
    left, right = np.split(s[2:8], 2)
    order = np.argsort(np.abs(s))[::-1][:3]
    swapped = np.stack([left, right], axis=1).T.reshape(-1)
    moved = np.roll(s, 1)[:2]
    mask = np.isfinite(s) & ~np.isnan(s)
    padded = np.pad(left, (1, 1), mode="edge")
    unique, counts = np.unique(np.round(s, 1), return_counts=True)
    tiled = np.tile(s[:2], 2) * np.repeat(s[2:4], 2)
    symmetric = np.minimum(left, right) / np.maximum(np.maximum(left, right), 1e-3)
    return np.concatenate([s, s[order], swapped, moved, mask.astype(np.float32), padded, [len(unique), counts.max()],
                           tiled, symmetric, np.flip(left), np.gradient(right)])

def intrinsic_reward(updated_s):
    return float(np.sum(updated_s[:17] ** 2, axis=0, keepdims=False))
""",
    "lists_of_constants": """
from __future__ import annotations
import numpy as np
from typing import Dict

WEIGHTS = [0.5, 0.3, 0.2]
INDEX: Dict[str, int] = {"height": 0, "speed": 8}
JOINTS = list(range(2, 8))
LIMITS = [(-1.0, 1.0), (-2.0, 2.0)]
PARAMS = {"weights": WEIGHTS, "targets": {"height": 1.25}, "legs": slice(2, 5)}
UPRIGHT = np.array([PARAMS["targets"]["height"]] + [0.0] * 2)

def revise_state(s: np.ndarray) -> np.ndarray:
    joints = s[JOINTS]
    height_error = s[INDEX["height"]] - PARAMS.get("targets")["height"]
    clipped = [min(max(x, low), high) for x, (low, high) in zip(s, LIMITS)]
    weighted = sum(w * x for w, x in zip(PARAMS["weights"], s))
    added = [height_error, weighted, joints.mean(), s[PARAMS["legs"]].sum()] + clipped
    del joints
    return np.concatenate([s, added, s[:3] - UPRIGHT])

def intrinsic_reward(updated_s: np.ndarray) -> float:
    value = -abs(updated_s[17]) + WEIGHTS[-1] * updated_s[18]
    return value.item() if hasattr(value, "item") else value
""",
}
# Lines of a function f(s) that returns something.
LINES = """
return np.sum(s, axis=-1, where=s > 0)
return s.sum(axis=0) + s.mean() + s.std(ddof=1)
return np.array([x for x in s if x > 0] + [0.0]).max(initial=0.0)
return [y for x in s for y in (x, x ** 2) if y > 0][:1]
return {k: v for k, v in zip("abc", s)}["a"]
return (s[0] if len(s) else 0.0) or 1.0
a, (b, c) = s[0], s[1:3]; return a * b - c
x = y = s[:2]; x = x + 1; return y @ x
x = np.zeros((3, 3)); x[np.diag_indices(3)] = s[:3]; np.fill_diagonal(x, 1.0); return x.sum()
x = np.ones(3); np.add.at(x, [0, 0], 1.0); return x
x = s.copy(); x.sort(); return x[::-1]
x = np.empty(2); x.fill(0.5); return x
x = np.zeros(5); x[[0, 2]] = 1; x[-1] += s[0]; x.flat[1] = 3.0; return x
x = [[0.0] * 3 for _ in range(2)]; x[0][1] = s[0]; return np.array(x)
return np.float32(s[0]) * np.int64(2) // 1
return np.array(s.tolist(), dtype=float).astype('float32').item(0)
return np.hypot(*s[:2])
return np.concatenate((*[s[:1]] * 2, s[2:]))
return pow(s[0], 2) + divmod(7.5, 2)[1] + round(s[1], 3)
return complex(s[0], s[1]).real + abs(complex(1, 2))
return np.lib.stride_tricks.sliding_window_view(s, 3).mean(axis=1)
return np.meshgrid(s[:2], s[2:4])[0].sum() + np.mgrid[0:2, 0:2].sum()
return s[np.newaxis, :].T.squeeze() + s[..., None][:, 0]
return dict(a=s[0], b=s[1])["b"]
return next((x for x in s if x > 2), 0.0)
return isinstance(s[0], (float, np.floating, np.ndarray)) * 1.0
f = np.sin if s[0] > 0 else np.cos; return f(s[1])
return np.count_nonzero(s.astype(bool)) / s.size
return math.fsum(s) + math.dist((0, 0), (1, 1)) + math.atan2(s[0], s[1])
return 1e6 if math.isinf(s[0]) or math.isnan(s[1]) else math.copysign(1, s[0])
""".strip().splitlines()

MAPS = """
import numpy as np

def blur(image, size=3):
    padded = np.pad(image, size // 2, mode="edge")
    out = np.zeros_like(image, dtype=np.float64)
    for dy in range(size):
        for dx in range(size):
            out += padded[dy:dy + image.shape[0], dx:dx + image.shape[1]]
    return out / size ** 2

def affordance(crop):
    gray = crop.astype(np.float32).mean(axis=2) / 255.0
    mask = gray > 0.4
    ys, xs = np.nonzero(mask)
    if len(ys) == 0:
        return np.ones((28, 28)) / 784
    cy, cx = ys.mean(), xs.mean()
    yy, xx = np.mgrid[0:28, 0:28]
    score = np.exp(-((yy - cy) ** 2 + (xx - cx) ** 2) / 50.0) * mask
    queue, seen = [(int(cy), int(cx))], set()
    while queue:
        y, x = queue.pop()
        if (y, x) in seen or not (0 <= y < 28 and 0 <= x < 28) or not mask[y, x]:
            continue
        seen.add((y, x))
        queue += [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
    for y, x in seen:
        score[y, x] *= 1.5
    score = np.maximum(blur(score), 0) + 1e-6
    return score / score.sum()
"""

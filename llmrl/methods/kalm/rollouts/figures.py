"""Figures and videos of imagined rollouts, beside the simulator's with the same actions from the same start."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmrl.checks import ConfigError
from llmrl.envs.clevr_robot.model import BACK_OFF, BALLS, COLOURS, DIRECTIONS, RADIUS, Table, at_rest, xy_of
from llmrl.envs.clevr_robot.rollouts import Rollouts
from llmrl.methods.kalm.rollouts.metrics import BOX_X, BOX_Y

COLUMNS = 8  # moments of a rollout that are drawn: the first ones and the last
PAINT = dict(zip(COLOURS, ("#D62728", "#1F77B4", "#2CA02C", "#9467BD", "#17BECF")))
FPS = 3


def replayed(start: NDArray, actions: NDArray) -> NDArray[np.float64]:
    """xy (5, 2) m and actions (t,) -> full states (t + 1, 69) as the simulator has them."""
    table, states = Table(), [at_rest(start[None])]
    for action in actions:
        states.append(table.push(states[-1], np.array([action])))
    return np.concatenate(states)


def draw(rollouts: Rollouts, which: list[int], reached: NDArray[np.bool_], path: Path) -> None:
    """Two rows per rollout, imagined and simulated, seen from above; an arrow is the next push. reached (n,): whether
    a rollout reaches its goal."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.0 * COLUMNS, 4.2 * len(which)), layout="constrained")
    FigureCanvasAgg(figure)
    for part, i in zip(figure.subfigures(len(which), 1, squeeze=False)[:, 0], which):
        length = int(rollouts.lengths[i])
        imagined = rollouts.observations[i, : length + 1].reshape(-1, BALLS, 2)
        actions = rollouts.actions[i, :length]
        real = xy_of(replayed(imagined[0].astype(float), actions))
        moments = np.arange(length + 1)
        if len(moments) > COLUMNS:
            moments = np.append(moments[: COLUMNS - 1], length)
        axes = part.subplots(2, COLUMNS, squeeze=False)
        steps = f"{length} step{'s' * (length > 1)}" + ("" if reached[i] else ", without reaching it")
        part.suptitle(f"{_sentence(rollouts, i)} ({steps})", x=0.01, ha="left")
        rows: list[tuple[str, NDArray]] = [("imagined", imagined), ("simulator", real)]
        for line, (name, xy) in zip(axes, rows):
            for axis in line[len(moments) :]:
                axis.set_visible(False)
            for axis, t in zip(line, moments.tolist()):
                _table(axis, xy[t], actions[t] if t < length else None)
                axis.set_title(f"{t}", fontsize=9, pad=2)
            line[0].set_ylabel(name)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=80)


def _sentence(rollouts: Rollouts, i: int) -> str:
    if rollouts.sentences is None or rollouts.texts is None:
        return ""
    return f"“{rollouts.sentences[rollouts.texts[i]]}”"


def _table(axis: Any, xy: NDArray, action: int | None) -> None:
    """Behind is up, as +y is."""
    from matplotlib.patches import Circle, Rectangle

    (left, right), (front, back) = BOX_X, BOX_Y
    axis.set(xlim=(-0.72, 0.72), ylim=(-0.42, 0.82), xticks=[], yticks=[], aspect="equal")
    axis.add_patch(Rectangle((left - RADIUS, front - RADIUS), right - left + 2 * RADIUS, back - front + 2 * RADIUS,
                             fill=False, edgecolor="#AAAAAA"))  # fmt: skip
    for place, colour in zip(xy, COLOURS):
        axis.add_patch(Circle(place, RADIUS, color=PAINT[colour], alpha=0.85))
    if action is not None:
        ball, direction = divmod(int(action), len(DIRECTIONS))
        way = DIRECTIONS[direction]
        axis.annotate("", xy[ball] + 0.3 * way, xy[ball] - BACK_OFF * way,
                      arrowprops={"arrowstyle": "-|>", "color": "black", "linewidth": 1.6})  # fmt: skip


def film(rollouts: Rollouts, i: int, path: Path) -> bool:
    """Writes a video, imagined on the left and simulated on the right. False where this machine cannot make one."""
    try:
        import imageio.v2 as imageio
        import imageio_ffmpeg  # noqa: F401 (imageio asks for it only when the first frame is there)

        from llmrl.envs.clevr_robot.renderer import Renderer

        renderer = Renderer()
    except (ImportError, ConfigError):
        return False
    length = int(rollouts.lengths[i])
    imagined = at_rest(rollouts.observations[i, : length + 1].reshape(-1, BALLS, 2).astype(float))
    real = replayed(xy_of(imagined[0]), rollouts.actions[i, :length])
    path.parent.mkdir(exist_ok=True)
    video: Any  # imageio's types know no append_data
    with imageio.get_writer(path, fps=FPS, macro_block_size=2) as video:
        for pair in zip(imagined, real):
            video.append_data(np.concatenate([renderer.render(state) for state in pair], axis=1))
    return True

"""The film of an evaluation's first episode: at a watchable rate, with seed, step and return on each frame."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from llmrl.checks import ConfigError

MAX_FPS = 30.0  # of a faster environment every second frame is kept, or every third: it stays as fast as it is
MIN_WIDTH, BAND = 320, 24  # pixels: a smaller frame is magnified; the words stand on a band above it
HELD_S = 1.0  # the last frame stays
Image = NDArray[np.uint8]  # (height, width, 3)


class FirstEpisodeFilm(gym.Wrapper):
    """Films the first episode, frame by frame straight into the file, so that its length costs no memory."""

    def __init__(self, env: gym.Env, path: Path, open_writer: Callable[[Path, float], Any], about: str = "") -> None:
        """`about`: what stands on every frame before step and return."""
        super().__init__(env)
        path.parent.mkdir(exist_ok=True)
        fps = float(env.metadata.get("render_fps", 30))
        self._every = math.ceil(fps / MAX_FPS)
        self._fps = fps / self._every
        self._film: Any = open_writer(path, self._fps)
        self._about, self._begun = about, False
        self._step, self._return, self._frames = 0, 0.0, 0
        self._last: Image | None = None
        self._last_is_in = False

    def reset(self, **kwargs: Any) -> tuple[Any, dict]:
        if self._begun:
            self._end()
        self._begun = True
        result = super().reset(**kwargs)
        self._add_frames()
        return result

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict]:
        result = super().step(action)
        self._step, self._return = self._step + 1, self._return + float(result[1])
        self._add_frames()
        return result

    def close(self) -> None:
        self._end()
        super().close()

    def _add_frames(self) -> None:
        if self._film is None:
            return
        frames = self.env.render()
        text = f"{self._about} · step {self._step:,} · return {self._return:,.2f}".removeprefix(" · ")
        for frame in frames if isinstance(frames, list) else [frames]:
            self._last = captioned(np.asarray(frame), text)
            self._last_is_in = self._frames % self._every == 0
            if self._last_is_in:
                self._film.append_data(self._last)
            self._frames += 1

    def _end(self) -> None:
        if self._film is None:
            return
        if self._last is not None:
            for _ in range(round(HELD_S * self._fps) + (not self._last_is_in)):
                self._film.append_data(self._last)
        self._film.close()
        self._film = None


def captioned(frame: Image, text: str) -> Image:
    """The frame, at least MIN_WIDTH wide, below a band with the text; its sides are even, as videos want them."""
    import cv2

    times = math.ceil(MIN_WIDTH / frame.shape[1])
    frame = frame.repeat(times, axis=0).repeat(times, axis=1)
    band = np.zeros((BAND, frame.shape[1], 3), np.uint8)
    text = text.replace("·", "|")  # OpenCV's letters are ASCII
    width = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.45, 1)[0][0]
    size = 0.45 * min(1.0, (frame.shape[1] - 12) / width)
    cv2.putText(band, text, (6, 16), cv2.FONT_HERSHEY_SIMPLEX, size, (255, 255, 255), 1, cv2.LINE_AA)
    whole = np.concatenate([band, frame])
    return np.pad(whole, ((0, whole.shape[0] % 2), (0, whole.shape[1] % 2), (0, 0)))


def video_writer() -> Callable[[Path, float], Any]:
    """Opens a film's file. Raises ConfigError where the extra is missing."""
    try:
        import imageio.v2 as imageio
        import imageio_ffmpeg  # noqa: F401 (imageio asks for it only when the first frame is there)
    except ImportError as error:
        raise ConfigError(f'--video needs imageio with ffmpeg ({error}): pip install "llmrl[video]"') from error
    return lambda path, fps: imageio.get_writer(path, fps=fps, macro_block_size=2)

"""llmrl eval <run directory> [--episodes N [--same]] [--seed S] [--video]

Plays greedy evaluation episodes with what a run has learned: agent.pt of a finished run, else the newest checkpoint.
Without --episodes the episodes are the run's own evaluation cases, so its last evaluation is repeated. --episodes N
plays N new cases, numbered on from those of its training (with --same the first N of these); --seed S those of another
evaluation seed. They are the same for every run, so runs can be compared. Prints the returns and appends them to
<run>/evaluations.jsonl; the run's own eval.jsonl stays as it is. --video films the first episode:
<run>/video/episode-0.mp4.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym

from llmrl.checks import ConfigError
from llmrl.runs.files import DiskError, writing


def main(args: list[str]) -> int:
    parser = argparse.ArgumentParser("llmrl eval", add_help=False, usage="llmrl eval <run directory> [--episodes N] …")
    parser.add_argument("run", type=Path)
    parser.add_argument("--episodes", type=_from(1))
    parser.add_argument("--same", action="store_true")
    parser.add_argument("--seed", type=_from(0))
    parser.add_argument("--video", action="store_true")
    asked = parser.parse_args(args)
    try:
        return evaluate_run(asked.run, asked.episodes, asked.seed, same=asked.same, video=asked.video)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2


def evaluate_run(run: Path, episodes: int | None, seed: int | None, *, same: bool, video: bool) -> int:
    """Plays, prints and writes down. Raises ConfigError where there is no run, nothing learned yet, or no video."""
    from llmrl.loaded import Loaded, check_run_directory

    check_run_directory(run)
    writer = _video_writer() if video else None

    from llmrl.intervals import mean_and_interval, over_episodes, share_and_interval
    from llmrl.runs.evaluate import cases

    loaded = Loaded(run)
    config, source, clock = loaded.config, loaded.source, loaded.clock
    own = seed is None or seed == config.eval.seed
    first = config.eval.episodes if episodes is not None and own and not same else 0
    seed = config.eval.seed if seed is None else seed
    evaluation_set = cases(seed, "eval", episodes or config.eval.episodes, first)
    env = loaded.env(render=video)
    if writer is not None:
        env = FirstEpisodeFilm(env, run / "video" / "episode-0.mp4", writer)
    scores = loaded.play_cases(env, evaluation_set)
    env.close()
    row = {"policy": "greedy", "source": source, "seed": seed, "first_case": first, **clock, **scores.row()}
    kept = keep(run / "evaluations.jsonl", {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **row})
    unit = config.budget.unit
    which = f"cases {first} to {first + len(evaluation_set) - 1} of evaluation seed {seed}"
    seen = "as in training" if own and not first else "new ones"
    n = len(evaluation_set)
    what = f"{n} greedy episodes at {clock[unit]:,} {unit}, from {source}; {over_episodes(n)}"
    print(f"return  {mean_and_interval(scores.returns)}   ({what})")
    for rule, successes in scores.successes.items():
        print(f"{rule.replace('_', ', ')}  {share_and_interval(successes)}   (share of these episodes)")
    print(f"cases   {which}: {seen}")
    print("each    " + ", ".join(f"{value:,.1f}" for value in scores.returns))
    if scores.capped:
        print(f"capped  {scores.capped} episodes were cut off at eval.max_steps={config.eval.max_steps:,}")
    if kept:
        print(f"file    {run / 'evaluations.jsonl'}")
    if video:
        print(f"video   {run / 'video' / 'episode-0.mp4'}")
    return 0 if kept else 1


def keep(file: Path, row: dict[str, Any]) -> bool:
    """Appends the row; where that cannot be, says so: the result is printed all the same."""
    try:
        with writing(file), open(file, "a", encoding="utf-8") as lines:
            lines.write(json.dumps(row) + "\n")
        return True
    except DiskError as error:
        print(f"llmrl eval: {file} cannot be written, so this is not kept: {error.strerror}", file=sys.stderr)
        return False


class FirstEpisodeFilm(gym.Wrapper):
    """Films the first episode, frame by frame straight into the file, so that its length costs no memory."""

    def __init__(self, env: gym.Env, path: Path, open_writer: Callable[[Path, float], Any]) -> None:
        super().__init__(env)
        path.parent.mkdir(exist_ok=True)
        self._film: Any = open_writer(path, env.metadata.get("render_fps", 30))
        self._begun = False

    def reset(self, **kwargs: Any) -> tuple[Any, dict]:
        if self._begun:
            self._end()
        self._begun = True
        result = super().reset(**kwargs)
        self._add_frame()
        return result

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict]:
        result = super().step(action)
        self._add_frame()
        return result

    def close(self) -> None:
        self._end()
        super().close()

    def _add_frame(self) -> None:
        if self._film is not None:
            frames = self.env.render()
            for frame in frames if isinstance(frames, list) else [frames]:
                self._film.append_data(frame)

    def _end(self) -> None:
        if self._film is not None:
            self._film.close()
            self._film = None


def _video_writer() -> Callable[[Path, float], Any]:
    try:
        import imageio.v2 as imageio
        import imageio_ffmpeg  # noqa: F401 (imageio asks for it only when the first frame is there)
    except ImportError as error:
        raise ConfigError(f'--video needs imageio with ffmpeg ({error}): pip install "llmrl[video]"') from error
    # frames need even sides for the usual colour format, no more
    return lambda path, fps: imageio.get_writer(path, fps=fps, macro_block_size=2)


def _from(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"must be a whole number from {least} on, not {text}")
        return int(text)

    return number

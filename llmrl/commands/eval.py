"""llmrl eval <run directory> [--episodes N [--same]] [--seed S] [--video]

Plays greedy evaluation episodes with what a run has learned: agent.pt of a finished run, else the newest checkpoint.
Without --episodes the episodes are the run's own evaluation cases, so its last evaluation is repeated. --episodes N
plays N new cases, numbered on from those of its training (with --same the first N of these); --seed S those of another
evaluation seed. They are the same for every run, so runs can be compared. Prints the returns and appends them to
<run>/evaluations.jsonl; the run's own eval.jsonl stays as it is. --video films the first episode, as fast as its
environment says and with seed, step and return on each frame: <run>/video/episode-0.mp4.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llmrl.checks import ConfigError
from llmrl.runs.files import DiskError, writing
from llmrl.waiting import on


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
    from llmrl.commands.film import FirstEpisodeFilm, video_writer

    writer = video_writer() if video else None

    from llmrl.intervals import mean_and_interval, over_episodes, share_and_interval
    from llmrl.runs.evaluate import cases

    loaded = Loaded(run)
    config, source, clock = loaded.config, loaded.source, loaded.clock
    own = seed is None or seed == config.eval.seed
    first = config.eval.episodes if episodes is not None and own and not same else 0
    seed = config.eval.seed if seed is None else seed
    evaluation_set = cases(seed, "eval", episodes or config.eval.episodes, first)
    env = loaded.env(render=video)
    film, n = run / "video" / "episode-0.mp4", len(evaluation_set)
    episodes_text = f"{n} greedy episode{'s' * (n != 1)}"
    if writer is not None:
        env = FirstEpisodeFilm(env, film, writer, f"seed {config.seed} · case {first}")
    filmed = f"; the first goes to {film}" * video
    print(f"Playing {episodes_text} of {config.choices['env']}{filmed}", file=sys.stderr, flush=True)
    with on(f"playing {episodes_text}"):
        scores = loaded.play_cases(env, evaluation_set)
        env.close()
    row = {"policy": "greedy", "source": source, "seed": seed, "first_case": first, **clock, **scores.row()}
    kept = keep(run / "evaluations.jsonl", {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **row})
    unit = config.budget.unit
    which = f"cases {first} to {first + len(evaluation_set) - 1} of evaluation seed {seed}"
    seen = "as in training" if own and not first else "new ones"
    what = f"{episodes_text} at {clock[unit]:,} {unit}, from {source}; {over_episodes(n)}"
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
        print(f"video   {film}   (the first of these episodes)")
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


def _from(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"must be a whole number from {least} on, not {text}")
        return int(text)

    return number

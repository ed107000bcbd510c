"""`llmrl eval` of finished and unfinished runs, and its videos; `llmrl status` of a real run."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import in_process  # noqa: F401 (the fixture llmrl)
from conftest import CART_POLE, SHORT, TINY, Done, only_run
from hydra.core.global_hydra import GlobalHydra

from llmrl import cli
from llmrl.commands import film
from llmrl.runs.files import read_jsonl

KEEP_CHECKPOINTS = "compute.checkpoint_every_s=0"
FREEWAY = [*TINY["dqn"], "env=atari/freeway", "budget.env_steps=20", "eval.every=20", *SHORT]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of a finished CartPole run that has kept its checkpoints. Copy it before writing there."""
    from llmrl.runs.checkpoint import Checkpoints

    root = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr(Checkpoints, "drop", lambda self: None)
        patch.setattr(sys, "argv", ["llmrl"])
        GlobalHydra.instance().clear()
        assert cli.main(["run", *CART_POLE, KEEP_CHECKPOINTS]) == 0
    return root / "outputs"


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, as seen from tmp_path."""
    shutil.copytree(finished, tmp_path / "outputs")
    return only_run(tmp_path / "outputs").relative_to(tmp_path)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_eval_repeats_the_runs_last_evaluation(llmrl: Callable[..., Done], run: Path) -> None:
    before = contents(run)
    done = llmrl("eval", str(run))
    assert done.code == 0, done.err
    (row,) = read_jsonl(run / "evaluations.jsonl")
    last = read_jsonl(run / "eval.jsonl")[-1]
    assert row["source"] == "agent.pt"
    assert {key: row[key] for key in last} == last
    assert "2 greedy episodes at 60 env_steps" in done.out
    assert "±" not in done.out and "no interval below 3 episodes" in done.out
    after = contents(run)
    del after["evaluations.jsonl"]
    assert after == before


def test_eval_of_more_episodes_and_of_another_seed(llmrl: Callable[..., Done], run: Path) -> None:
    new = llmrl("eval", str(run), "--episodes", "3").out
    llmrl("eval", str(run), "--episodes", "5", "--same")
    llmrl("eval", str(run), "--seed", "7")
    more, same, other = read_jsonl(run / "evaluations.jsonl")
    last = read_jsonl(run / "eval.jsonl")[-1]
    assert "cases 2 to 4 of evaluation seed 0: new ones" in new  # two were training's
    assert more["first_case"] == 2 and more["returns"] == same["returns"][2:] and len(more["returns"]) == 3
    assert same["first_case"] == 0 and same["returns"][:2] == last["returns"]
    assert other["seed"] == 7 and len(other["returns"]) == 2
    assert "whole number from 1 on" in llmrl("eval", str(run), "--episodes", "0").err


def test_eval_of_an_unfinished_run_takes_the_newest_whole_checkpoint(llmrl: Callable[..., Done], run: Path) -> None:
    for name in ("agent.pt", "result.json"):
        (run / name).unlink()
    older, newest = sorted((run / "checkpoint").glob("[0-9]*"), key=lambda path: int(path.name))
    assert llmrl("eval", str(run)).code == 0
    with open(newest / "state.pt", "r+b") as file:
        file.write(b"torn")
    before = contents(run / "checkpoint")
    assert llmrl("eval", str(run)).code == 0
    whole, torn = read_jsonl(run / "evaluations.jsonl")
    assert (whole["source"], whole["env_steps"]) == (f"checkpoint/{newest.name}", 60)
    assert (torn["source"], torn["env_steps"]) == (f"checkpoint/{older.name}", 59)
    assert whole["returns"] == read_jsonl(run / "eval.jsonl")[-1]["returns"]
    assert contents(run / "checkpoint") == before
    shutil.rmtree(run / "checkpoint")
    nothing = llmrl("eval", str(run))
    assert nothing.code == 2 and "neither agent.pt nor a whole checkpoint" in nothing.err


def test_eval_of_a_bad_path_names_the_nearest_run(llmrl: Callable[..., Done], run: Path) -> None:
    for path in (str(run)[:-2], str(run.parent), "outputs/default/vanilla-dqn", "elsewhere"):
        done = llmrl("eval", path)
        assert done.code == 2
        assert "not a run directory" in done.err and f"\n  {run}" in done.err


def test_video_without_its_extra_says_how_to_get_it(
    llmrl: Callable[..., Done], run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    done = llmrl("eval", str(run), "--video")
    assert done.code == 2 and 'pip install "llmrl[video]"' in done.err
    assert not (run / "evaluations.jsonl").exists() and not (run / "video").exists()


def test_video_shows_the_first_episode_of_a_game(llmrl: Callable[..., Done], tmp_path: Path) -> None:
    imageio = pytest.importorskip("imageio.v2")
    pytest.importorskip("imageio_ffmpeg")
    assert llmrl("run", *FREEWAY).code == 0
    run = only_run(tmp_path / "outputs")
    done = llmrl("eval", str(run), "--video")
    assert done.code == 0, done.err
    frames = [frame for frame in imageio.get_reader(run / "video" / "episode-0.mp4")]  # noqa: C416 (its len is inf)
    (row,) = read_jsonl(run / "evaluations.jsonl")
    assert len(frames) == row["lengths"][0] + 1 + 15  # after the reset and every step, and the last for a second
    assert frames[0].shape == (2 * 210 + film.BAND, 2 * 160, 3) and frames[0].std() > 10


def test_the_film_is_of_the_first_episode_alone_and_can_be_watched(tmp_path: Path) -> None:
    import gymnasium as gym
    import numpy as np

    class Counting(gym.Env):
        """Every frame's grey is the number of steps made in all; a hundred frames are a second."""

        steps, metadata = 0, {"render_fps": 100}

        def reset(self, **kwargs: object) -> tuple[int, dict]:
            return 0, {}

        def step(self, action: int) -> tuple[int, float, bool, bool, dict]:
            self.steps += 1
            return 0, 0.5, False, False, {}

        def render(self) -> np.ndarray:
            return np.full((101, 321, 3), self.steps, np.uint8)

    class Film(list):
        append_data = list.append
        closed = fps = 0

        def close(self) -> None:
            self.closed += 1

    kept = Film()

    def writer(path: Path, fps: float) -> Film:
        kept.fps = fps
        return kept

    env = film.FirstEpisodeFilm(Counting(), tmp_path / "video" / "episode-0.mp4", writer, "seed 3")
    for _ in range(2):
        env.reset()
        for _ in range(6):
            env.step(0)
    env.close()
    assert kept.closed == 1 and kept.fps == 25  # every fourth frame
    assert [int(frame[-2, 0, 0]) for frame in kept] == [0, 4] + [6] * 26  # the last one stays for a second
    assert kept[0].shape == (126, 322, 3)
    words = [frame[: film.BAND] for frame in kept[:3]]
    assert all(band.max() == 255 for band in words) and (words[0] != words[1]).any()  # step and return have changed


def test_status_of_a_real_run_from_any_directory(
    llmrl: Callable[..., Done], run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = read_jsonl(run / "eval.jsonl")[-1]
    assert (
        f"DONE           60  60  {last['return_mean']:,.1f}".split() == llmrl("status").out.splitlines()[1].split()[4:8]
    )
    monkeypatch.chdir(run)
    assert ["default", "vanilla-dqn", "classic-cart_pole", run.name] == llmrl("status", ".").out.splitlines()[
        1
    ].split()[:4]

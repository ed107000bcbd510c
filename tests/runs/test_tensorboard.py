"""The TensorBoard mirror, read back with TensorBoard: every row once, in order; a run is the same with and without."""

import importlib.util
from pathlib import Path

import pytest
from conftest import CART_POLE, only_run

from llmrl.runs.files import read_jsonl
from llmrl.runs.log import RunLog, TensorBoardMirror


def shown(directory: Path, name: str) -> list[tuple[int, float]]:
    """(step, value) of one curve, as TensorBoard shows it."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(directory / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_rows_arrive_once_even_where_a_resume_makes_them_again(tmp_path):
    pytest.importorskip("tensorboard")
    log = RunLog(tmp_path, TensorBoardMirror(tmp_path))
    log.metrics({"kind": "train", "env_steps": 10, "loss": 1.0})
    offsets = log.offsets()
    log.metrics({"kind": "train", "env_steps": 20, "loss": 2.0})
    log.flush()  # and then the process is killed
    log = RunLog(tmp_path, TensorBoardMirror(tmp_path))
    log.cut(offsets)
    for env_steps in (20, 30):
        log.metrics({"kind": "train", "env_steps": env_steps, "loss": env_steps / 10})
    log.evaluation({"env_steps": 30, "policy": "greedy", "return_mean": 1.5, "returns": [1.0, 2.0]})
    log.close()
    assert shown(tmp_path, "train/train/loss") == [(10, 1.0), (20, 2.0), (30, 3.0)]
    assert shown(tmp_path, "eval/greedy/return_mean") == [(30, 1.5)]


def test_a_mirrored_run_is_the_same_run(llmrl_run, tmp_path):
    pytest.importorskip("tensorboard")
    assert llmrl_run(*CART_POLE, "log.tensorboard=true", "study=mirrored").code == 0
    assert llmrl_run(*CART_POLE, "study=plain").code == 0
    mirrored, plain = (only_run(tmp_path / "outputs" / study) for study in ("mirrored", "plain"))
    assert mirrored.name == plain.name and not (plain / "tensorboard").exists()
    for name in ("metrics.jsonl", "eval.jsonl"):
        assert (mirrored / name).read_bytes() == (plain / name).read_bytes()
    rows = [row for row in read_jsonl(mirrored / "eval.jsonl") if row["policy"] == "greedy"]
    curve = shown(mirrored, "eval/greedy/return_mean")
    assert [step for step, _ in curve] == [row["env_steps"] for row in rows]
    assert [value for _, value in curve] == pytest.approx([row["return_mean"] for row in rows])


def test_without_the_package_nothing_is_trained(llmrl_run, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "tensorboard" else find(name, *a))
    done = llmrl_run(*CART_POLE, "log.tensorboard=true")
    assert done.code == 2 and 'pip install "llmrl[tensorboard]"' in done.err
    assert not list(tmp_path.rglob("metrics.jsonl"))


def test_a_mirror_that_breaks_does_not_break_the_run(tmp_path, capsys):
    pytest.importorskip("tensorboard")
    mirror = TensorBoardMirror(tmp_path)
    log = RunLog(tmp_path, mirror)
    mirror._writer.flush = lambda: (_ for _ in ()).throw(OSError("no space left"))
    log.metrics({"kind": "train", "env_steps": 10, "loss": 1.0})
    log.flush()
    log.metrics({"kind": "train", "env_steps": 20, "loss": 1.0})
    log.close()
    assert "log.tensorboard: the mirror stopped (no space left)" in capsys.readouterr().err
    assert [row["env_steps"] for row in read_jsonl(tmp_path / "metrics.jsonl")] == [10, 20]

"""The offline loop: whatever interrupts it, it ends byte for byte as if nothing had been; and what it writes."""

import json
import math
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from offline_training import SMALL, left, training
from test_resume_in_process import StopAtPass, equal

from llmrl.loops.offline import OfflineTraining
from llmrl.loops.training import TrainingDiverged
from llmrl.runs.checkpoint import Checkpoints
from llmrl.runs.stop import Stop, Stopped


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr("os.fsync", lambda fd: None)  # nobody pulls the plug here


def uninterrupted(directory, name, **settings):
    one = training(directory, name, **settings)
    one.run()
    return left(directory, one)


@pytest.mark.parametrize("name", SMALL)
def test_stopped_before_every_update(name, tmp_path):
    """One training that is stopped at the top of each of its passes, so that every update is another life's."""
    expected = uninterrupted(tmp_path / "whole", name, updates=12)
    assert [len(lines.splitlines()) for lines in expected[0].values()] == [1 + 3, 3]
    for lives in range(1, 20):  # noqa: B007
        one = training(tmp_path / "stopped", name, updates=12, stop=StopAtPass(1))
        try:
            one.run()
            break
        except Stopped:
            one.log.close()
    assert lives == 13
    equal(left(tmp_path / "stopped", one), expected)


@pytest.mark.parametrize("name", ["bc", "cql"])
def test_stopped_once_wherever(name, tmp_path):
    expected = uninterrupted(tmp_path / "whole", name)
    for at in range(0, 31, 3):
        directory = tmp_path / f"at_{at}"
        one = training(directory, name, stop=StopAtPass(at))
        with pytest.raises(Stopped):
            one.run()
        one.log.close()
        one = training(directory, name)
        one.run()
        equal(left(directory, one), expected, f"stopped at {at}: ")


class StopInEvaluation(Stop):
    """The signal comes inside evaluation `number`, counted from 0."""

    def __init__(self, number):
        super().__init__()
        self.left = number

    def poll(self):
        if self._regions:
            self.left -= 1
            if self.left < 0:
                raise Stopped(signal.SIGTERM)


@pytest.mark.parametrize("number", range(4))
def test_stopped_inside_an_evaluation(number, tmp_path):
    expected = uninterrupted(tmp_path / "whole", "cql")
    one = training(tmp_path / "stopped", "cql", stop=StopInEvaluation(number))
    with pytest.raises(Stopped):
        one.run()
    one.log.close()
    one = training(tmp_path / "stopped", "cql")
    one.run()
    equal(left(tmp_path / "stopped", one), expected)


def test_killed(tmp_path):
    """A process that writes checkpoints all the time is killed, whatever it is doing."""
    expected = uninterrupted(tmp_path / "whole", "bc", updates=300)
    directory, program = tmp_path / "killed", Path(__file__).parents[1].joinpath("offline_training.py")
    variables = os.environ | {"PYTHONPATH": str(program.parents[1]), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, program, directory, "bc"], env=variables)
    while newest(directory) < 40:
        with suppress(subprocess.TimeoutExpired):
            assert process.wait(timeout=0.005) is None, "it ended before it could be killed"
    process.kill()
    process.wait()
    assert newest(directory) < 300
    one = training(directory, "bc", updates=300)
    one.run()
    equal(left(directory, one), expected)


def test_what_came_after_the_newest_checkpoint_is_done_again(tmp_path):
    """The second checkpoint is torn, and rows of both logs were written after the first one."""
    expected = uninterrupted(tmp_path / "whole", "cql")
    told = []
    for at in (8, 25 - 8):  # passes of each life
        one = training(tmp_path / "torn", "cql", stop=StopAtPass(at))
        with pytest.raises(Stopped):
            one.run()
        one.log.close()
    (tmp_path / "torn" / "checkpoint" / "1" / "state.pt").write_bytes(b"half of it")
    one = training(tmp_path / "torn", "cql", report=lambda clock, facts: told.append((clock.updates, facts)))
    one.run()
    assert "is damaged" in told[0][1]["warning"]
    equal(left(tmp_path / "torn", one), expected)


def newest(directory):
    checkpoints = directory / "checkpoint"
    there = [int(d.name) for d in checkpoints.iterdir() if d.name.isdigit()] if checkpoints.exists() else []
    return max(there, default=-1)


def test_how_often_is_evaluated_changes_no_byte_of_training(tmp_path):
    often = uninterrupted(tmp_path / "often", "cql", evaluate_every=3)
    seldom = uninterrupted(tmp_path / "seldom", "cql", evaluate_every=30)
    rows = [train_rows(files) for files, _ in (often, seldom)]
    assert rows[0] == rows[1]
    equal(often[1]["agent"], seldom[1]["agent"])


def train_rows(files):
    rows = map(json.loads, files["metrics.jsonl"].splitlines())
    return [row for row in rows if row["kind"] == "train"]


def test_rows_count_updates_and_no_env_steps(tmp_path):
    told = []
    one = training(tmp_path / "run", "cql", report=lambda clock, facts: told.append((clock.updates, set(facts))))
    clock = one.run()
    files, _ = left(tmp_path / "run", one)
    rows = train_rows(files)
    assert [row["updates"] for row in rows] == [7, 14, 21, 28]
    assert {"loss", "td_loss", "conservative_loss", "q"} < set(rows[0])
    assert {(row["env_steps"], row["episodes"]) for row in rows} == {(0, 0)} and (clock.env_steps, clock.updates) == (
        0,
        30,
    )
    validations = [json.loads(line) for line in files["metrics.jsonl"].splitlines()]
    assert [row["updates"] for row in validations if row["kind"] == "validation"] == [0, 10, 20, 30]
    assert (30, {"loss", "total"}) in told
    timing = [json.loads(line) for line in (tmp_path / "run" / "timing.jsonl").read_text().splitlines()]
    assert timing[-1]["updates"] == 30 and timing[-1]["updates_per_s"] >= 0


class Diverging:
    """A learner whose loss is NaN from update 5 on."""

    updates = 0

    def update(self, batch):
        self.updates += 1
        return {"loss": torch.tensor(float("nan") if self.updates >= 5 else 1.0)}

    def state_dict(self):
        return {"updates": self.updates}

    def load_state_dict(self, state):
        self.updates = state["updates"]


def test_divergence_is_named_and_the_rows_before_it_are_kept(tmp_path):
    one = training(tmp_path / "run", "bc")
    settings = {name: getattr(one, name) for name in ("schedule", "evaluate", "log", "checkpoints", "stop", "report")}
    failing = OfflineTraining(Diverging(), one.source, seed=0, **settings)
    with pytest.raises(TrainingDiverged, match="loss is nan at 7 updates"):
        failing.run()
    settings["checkpoints"] = Checkpoints(tmp_path / "other")
    failing = OfflineTraining(one.learner, one.source, seed=0, validate=lambda: {"mse": math.nan}, **settings)
    with pytest.raises(TrainingDiverged, match="mse is nan at 0 updates"):
        failing.run()

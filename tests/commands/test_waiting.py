"""What a command says on a terminal where it is silent for long, and what a plan and a sweep say while they go on."""

import json

import pytest

from llmrl.report.plan.executor import Ended, Job, Part
from llmrl.report.plan.progress import GridProgress
from llmrl.runs.lifecycle import RunResult
from llmrl.runs.sweep_progress import SweepProgress, duration
from llmrl.waiting import CLEAR, SILENT_S, Waiting


@pytest.fixture
def line(monkeypatch):
    """A line, and what it wrote."""
    waiting, written = Waiting(), []
    monkeypatch.setattr(waiting, "_write", written.append)
    return waiting, written


def test_a_silent_command_says_what_it_does_and_the_line_goes_away(line):
    waiting, written = line
    silent = waiting._last + SILENT_S
    waiting.look(silent - 0.1)
    assert written == []
    with waiting.on("composing 12 cells"):
        waiting.look(silent)
    assert written[-1].startswith(CLEAR) and "composing 12 cells, 3 s" in written[-1]
    waiting.written(b"the table\n")
    assert written[-1] == CLEAR and len(written) == 2
    waiting.written(b"more\n")
    assert len(written) == 2


def test_it_leaves_a_begun_line_and_an_ended_command_alone(line):
    waiting, written = line
    waiting.written(b"a question: ")
    waiting.look(waiting._last + 2 * SILENT_S)
    waiting.written(b"yes\n")
    waiting.end()
    waiting.look(waiting._last + 2 * SILENT_S)
    assert written == []


def test_a_progress_bar_that_shows_the_cursor_again_has_ended_its_line(line):
    waiting, written = line
    waiting.written(b"100/100 env_steps\r\n\x1b[?25h")
    waiting.look(waiting._last + SILENT_S)
    assert written[-1].startswith(CLEAR)
    waiting.written(b"\x1b[32m 1/100")
    waiting.look(waiting._last + 2 * SILENT_S)
    assert written[-1] == CLEAR


def a_job(folder, name, *, steps=None, status="RUNNING", per_s=None):
    path = folder / name
    path.mkdir()
    if steps is not None:
        (path / "status.json").write_text(json.dumps({"status": status, "env_steps": steps}))
    if per_s is not None:
        (path / "timing.jsonl").write_text(json.dumps({"env_steps_per_s": per_s}) + "\n")
    return Job(name, (), parts=(Part(name, path, 1000, "env_steps", ("td3",)),))


def test_a_plan_says_what_runs_is_done_fails_and_how_long_the_rest_takes(tmp_path, capsys):
    done, failed = a_job(tmp_path, "a", steps=1000, status="DONE", per_s=2.0), a_job(tmp_path, "b")
    running, later = a_job(tmp_path, "c", steps=400, per_s=1.0), a_job(tmp_path, "d")
    with GridProgress([done, failed, running, later], 2) as progress:
        assert progress.left() == "16 min left"  # 600 s of c at its speed; b and d at the mean of a's and c's
        for job in (done, failed, running):
            progress.begun(job)
        progress.ended(Ended(done, "done", ""))
        progress.ended(Ended(failed, "failed", "RuntimeError: no"))
        assert progress.summary() == "1 of 4 done, 1 failed, 1 running, 1 to come; 11 min left"
    out = capsys.readouterr().out
    assert "begun (3 of 4): c" in out and "failed: b (0 s)\n    RuntimeError: no" in out


def test_without_any_speed_nobody_knows_the_time(tmp_path):
    with GridProgress([a_job(tmp_path, "a")], 1) as progress:
        assert progress.left() == "time left: not known yet"


def test_a_sweep_says_which_run_begins_and_in_the_end_which_failed(tmp_path, capsys):
    sweep = SweepProgress([["seed=0"], ["seed=1", "agent=td3"]])
    sweep.begun([0])
    sweep.ended([0], [RunResult(tmp_path, "DONE", 0)])
    sweep.begun([1])
    sweep.ended([1], [RunResult(tmp_path, "FAILED", 1)])
    err = capsys.readouterr().err
    assert "Run 2 of 2: seed=1 agent=td3\n" in err and "1 of 2 runs: 1 done; about 0 s left\n" in err
    assert "2 of 2 runs: 1 done, 1 failed\n  FAILED: seed=1 agent=td3\n" in err


def test_a_single_run_is_no_sweep(tmp_path, capsys):
    sweep = SweepProgress([["seed=0"]])
    sweep.begun([0])
    sweep.ended([0], [RunResult(tmp_path, "DONE", 0)])
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("seconds, text", [(40, "40 s"), (700, "12 min"), (7200, "2.0 h"), (200_000, "2.3 d")])
def test_durations(seconds, text):
    assert duration(seconds) == text

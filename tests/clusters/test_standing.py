"""`llmrl status` and `llmrl cancel`, without a cluster: what is said of a submitted run, and how it is stopped here."""

import json
import time
from pathlib import Path

import pytest
from command_line import in_process  # noqa: F401 (the fixture llmrl)
from conftest import SHORT, TINY, Done, below, only_run, status

from llmrl.clusters.backend import Entry
from llmrl.clusters.standing import standing
from llmrl.runs.files import write_json

JOB = {"backend": "slurm", "batch": "b", "tasks": [3], "after": ["search"]}
LONG = [*TINY["dqn"], "env=classic/cart_pole", "budget.env_steps=1_000_000", *SHORT]


def said(name: str, entry: Entry | None = None, **facts: str) -> tuple[str, str]:
    queue = {("b", 3): entry} if entry else {}
    return standing({"status": name, "job": JOB, **facts}, {"slurm": queue})


@pytest.mark.parametrize("name, entry, facts, expected", [
    ("QUEUED", Entry("1_3", "PENDING", "Priority"), {}, ("QUEUED", "Priority")),
    ("QUEUED", Entry("1_3", "RUNNING"), {}, ("QUEUED", "running")),  # its process is about to begin
    ("INTERRUPTED", Entry("1_3", "PENDING", "BeginTime"), {"reason": "SIGUSR2"},
     ("QUEUED", "again, after SIGUSR2: BeginTime")),
    ("PAUSED", Entry("1_3", "SPECIAL_EXIT"), {"reason": "no answer"},
     ("SPECIAL_EXIT", "no answer; the same submission lets it go on")),
    ("INTERRUPTED", None, {"reason": "killed"}, ("INTERRUPTED", "killed")),
    ("RUNNING", Entry("1_3", "RUNNING"), {}, ("RUNNING", "")),
    ("DONE", None, {}, ("DONE", "")),
])  # fmt: skip
def test_what_is_said_of_a_submitted_run(name, entry, facts, expected):
    assert said(name, entry, **facts) == expected


def test_why_a_run_is_lost(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert said("QUEUED") == ("LOST", "what it builds on is not done: search: not begun")
    Path("search").mkdir()
    write_json(Path("search/status.json"), {"status": "FAILED", "reason": "no program"})
    assert said("QUEUED") == ("LOST", "what it builds on has failed: search: no program")
    write_json(Path("search/status.json"), {"status": "DONE"})
    assert "hands it in again" in said("QUEUED")[1]


def test_away_from_the_cluster_it_is_queued_as_far_as_known():
    assert standing({"status": "QUEUED", "job": JOB}, {"slurm": None}) == (
        "QUEUED", "the queue cannot be asked from here")  # fmt: skip


def test_a_run_of_this_machine_is_cancelled_and_goes_on(llmrl, process, tmp_path):
    run = process(*LONG)
    assert run.until(lambda: any(status(path.parent) == "RUNNING" for path in below(tmp_path, "status.json")))
    assert run.until(lambda: bool(below(tmp_path, "timing.jsonl")))
    (row,) = json.loads(llmrl("status", "--json").out)
    assert (row["status"], row["target_steps"]) == ("RUNNING", 1_000_000)
    done = llmrl("cancel", "outputs")
    assert done.code == 0 and "1 that run and checkpoint first" in done.out
    assert run.end(timeout=60).code == 143
    assert status(only_run(tmp_path)) == "INTERRUPTED" and below(tmp_path, "manifest.json")
    assert "Cancelled: 0 that waited, 0 that run" in llmrl("cancel", "outputs").out
    assert llmrl("cancel", "nowhere").code == 2


def test_watching_repeats_the_table_until_ctrl_c(llmrl, tmp_path, monkeypatch):
    place = tmp_path / "outputs" / "a" / "vanilla-td3" / "mujoco-hopper" / "s0-12345678"
    place.mkdir(parents=True)
    write_json(place / "status.json", {"status": "DONE", "env_steps": 5})
    waits = iter([None])

    def sleep(seconds: float) -> None:
        if next(waits, "no more") == "no more":
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", sleep)
    done: Done = llmrl("status", "--watch")
    assert done.code == 130 and done.out.count("1 runs: 1 DONE") == 2

"""Runs handed to a queue that llmrl does not know: a file of commands, each of which may be started anywhere, again."""

import os
import shlex
import subprocess
import sys

from command_line import in_process  # noqa: F401 (the fixture llmrl)
from conftest import ROOT, status
from lab_tables import cells_of, make_run, written_lab  # noqa: F401 (the fixture lab)
from own_directory import TINY as OWN
from own_directory import own_directory  # noqa: F401 (the fixture own)
from submitted_runs import below_tmp, equal_to_local, rows, submitted  # noqa: F401 (the fixture outputs)

from llmrl.runs.identity import RunDirectory


def test_each_line_is_a_run_that_goes_on(llmrl, own, outputs):
    """Of an agent and an environment below LLMRL_PATH."""
    done = llmrl("run", "-m", *OWN, "seed=0,1", "hydra/launcher=files")
    assert done.code == 0 and "2 submitted" in done.out, done.err
    assert {row["status"] for row in rows(llmrl, outputs).values()} == {"QUEUED"}
    (commands,) = outputs.glob(".jobs/*/commands.txt")
    lines = commands.read_text().splitlines()
    assert len(lines) == 2
    for line in lines:
        _, *args = shlex.split(line)
        started = subprocess.run([sys.executable, "-m", "llmrl", *args], cwd=outputs.parent, capture_output=True,
                                 text=True, env=environment(own))  # fmt: skip
        assert started.returncode == 0, started.stderr
    assert [status(run) for run in submitted(outputs)] == ["DONE"] * 2
    assert equal_to_local(llmrl, outputs, *OWN, "seed=0,1")


def environment(own) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "LLMRL_PATH": str(own), "OMP_NUM_THREADS": "1"}


def test_no_key_is_needed_for_what_is_done(llmrl, lab, outputs, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    cells = cells_of(lab(rows={"CartPole": []}), extra=["llm=gpt-4o-mini"])
    submit = ["plan", "lab/small", "--set", "llm=gpt-4o-mini", "--row", "CartPole", "--submit", "files"]
    refused = llmrl(*submit)
    assert refused.code == 2 and "OPENAI_API_KEY" in refused.err
    for run in cells[1].runs:
        make_run(run)
    done = llmrl(*submit)
    assert done.code == 0 and "3 submitted, 3 done before" in done.out, done.err


def test_a_tables_runs_and_nothing_to_wait_for(llmrl, lab, outputs):
    lab()
    row = ["lab/small", "--row", "CartPole"]
    done = llmrl("plan", *row, "--submit", "files", "--set", "hydra.launcher.runs_per_task=2")
    assert done.code == 0 and "6 submitted" in done.out, done.err
    (commands,) = outputs.glob(".jobs/*/commands.txt")
    assert [line.count("outputs/lab/") for line in commands.read_text().splitlines()] == [2, 2, 2]
    assert "6 queued" in llmrl("plan", *row).out
    cancelled, given_up = (RunDirectory(path) for path in submitted(outputs)[:2])  # before they began
    cancelled.set_status("INTERRUPTED", reason="cancelled")
    given_up.set_status("FAILED", reason="no progress over 3 starts")
    assert "6 runs: 1 failed, 1 missing, 4 queued" in llmrl("plan", *row).out
    refused = llmrl("plan", "lab/small", "--submit", "files", "--set", "hydra.launcher.wait=true")
    assert refused.code == 2 and "hydra.launcher.wait" in refused.err
    refused = llmrl("plan", "lab/small", "--submit", "slrum")
    assert refused.code == 2 and "Did you mean `slurm`?" in refused.err
    both = llmrl("plan", "lab/small", "--run", "--submit", "slurm")
    assert both.code == 2 and "only one of them" in both.err

"""Runs submitted to a real Slurm: whatever it does to them, they end as local runs do, byte for byte."""

import os
import signal
from pathlib import Path

import pytest
from command_line import in_process  # noqa: F401 (the fixture llmrl)
from conftest import SHORT, TINY, status
from leases import held
from own_directory import TINY as OWN
from own_directory import own_directory  # noqa: F401 (the fixture own)
from slurm_cluster import LIMIT, cluster_without_jobs, started_cluster  # noqa: F401 (the fixture slurm)
from submitted_runs import below_tmp, equal_to_local, handle_of, log, rows, submitted, training  # noqa: F401 (outputs)

from llmrl.runs.files import read_json, write_json
from llmrl.runs.identity import RunDirectory

pytestmark = pytest.mark.timeout(900)  # processes of Slurm, which a busy machine takes minutes for
QUICK = [*TINY["dqn"], "env=classic/cart_pole", "budget.env_steps=60", "eval.every=20", *SHORT]
LONG = [*TINY["dqn"], "env=classic/cart_pole", "budget.env_steps=5000", "eval.every=2500", *SHORT]
SEEDS = "seed=0,1,2,3"
SUBMIT = ["hydra/launcher=slurm", "hydra.launcher.time=10", "hydra.launcher.cpus=1"]


@pytest.fixture
def nothing_starts(slurm):
    """Jobs wait until it is called."""
    slurm("scontrol", "update", "PartitionName=low", "State=DOWN")
    yield lambda: slurm("scontrol", "update", "PartitionName=low", "State=UP")
    slurm("scontrol", "update", "PartitionName=low", "State=UP")


# --- submitting -------------------------------------------------------------------------------------------------------


def test_it_is_submitted_once_and_what_is_edited_meanwhile_does_not_count(llmrl, slurm, nothing_starts, own, outputs):
    """An agent and an environment of one's own: the second submission finds the runs queued, the third one done."""
    sweep = ["-m", *OWN, "seed=0,1"]
    first = llmrl("run", *sweep, *SUBMIT)
    assert first.code == 0 and "2 submitted" in first.out, first.err
    runs = submitted(outputs)
    assert [status(run) for run in runs] == ["QUEUED"] * 2 and len(slurm.queue()) == 2
    assert [row["status"] for row in rows(llmrl, outputs).values()] == ["QUEUED"] * 2
    assert "2 in the queue or running" in llmrl("run", *sweep, *SUBMIT).out and len(slurm.queue()) == 2
    (code,) = (outputs / ".code").iterdir()
    assert not any(file.stat().st_mode & 0o222 for file in code.rglob("*.py"))
    agent = own / "agents" / "own_agent.py"
    edited, original = "raise RuntimeError('edited')\n", agent.read_text()
    agent.write_text(edited)
    nothing_starts()
    slurm.until_empty()
    agent.write_text(original)
    assert "2 done before" in llmrl("run", *sweep, *SUBMIT).out, log(outputs)
    for run in runs:
        (start,) = read_json(run / "versions.json")["starts"]
        frozen = read_json(code / "code.json")
        assert [start["code"].get(key) for key in ("commit", "patch_sha")] == [
            frozen.get(key) for key in ("commit", "patch_sha")
        ]
    assert equal_to_local(llmrl, outputs, *OWN, "seed=0,1")


def test_more_runs_than_an_array_may_have(llmrl, slurm, nothing_starts, outputs):
    n = LIMIT + 1
    done = llmrl("run", "-m", *QUICK, f"seed=range(0,{n})", *SUBMIT)
    assert done.code == 0, done.err
    assert len(slurm.queue()) == n and len(list(outputs.glob(".jobs/*/job.sh"))) == 2
    assert slurm("squeue", "-h", "-o", "%F").split()[0] != slurm("squeue", "-h", "-o", "%F").split()[-1]


def test_settings_that_slurm_refuses_leave_nothing_queued(llmrl, slurm, outputs):
    wrong = llmrl("run", "-m", *QUICK, *SUBMIT, "hydra.launcher.partition=hihg")
    assert wrong.code == 2 and "hihg" in wrong.err and "invalid partition" in wrong.err.lower()
    assert not submitted(outputs) and not slurm.queue()
    wrong = llmrl("run", "-m", *QUICK, *SUBMIT, "hydra.launcher.cpus=no")
    assert wrong.code == 2 and "hydra.launcher.cpus" in wrong.err and "slurm.yaml" in wrong.err


# --- interrupted ------------------------------------------------------------------------------------------------------


def test_preempted_requeued_killed_and_out_of_time(llmrl, slurm, outputs):
    """One run is thrown out for a job of higher priority, one is queued again by its user, one is killed, and one gets
    the signal of its time limit while Python still imports."""
    assert llmrl("run", "-m", *LONG, SEEDS, *SUBMIT).code == 0
    killed, late, requeued, preempted = submitted(outputs)  # an array's last task has the array's own number
    (batch,) = outputs.glob(".jobs/*/tasks.json")
    slurm.until(batch.with_name("1.starts").exists)
    slurm("scancel", "--signal=USR2", "--batch", handle_of(slurm, late))
    slurm.until(lambda: all(training(run) for run in (killed, requeued, preempted)))
    slurm("scontrol", "requeue", handle_of(slurm, requeued))
    os.kill(RunDirectory(killed).owner()["pid"], signal.SIGKILL)
    slurm("sbatch", "--partition=high", "--cpus-per-task=4", "--output=/dev/null", "--wrap", "true")
    slurm.until_empty()
    assert rows(llmrl, outputs)[killed.name]["reason"] == "killed"
    again = llmrl("run", "-m", *LONG, SEEDS, *SUBMIT).out
    assert "3 done before" in again and "1 submitted" in again, log(outputs)
    slurm.until_empty()
    assert all(len(starts(run)) == 2 for run in (killed, requeued, preempted)), log(outputs)
    assert equal_to_local(llmrl, outputs, *LONG, SEEDS)


def starts(run: Path) -> list[dict]:
    return read_json(run / "versions.json")["starts"]


def test_a_sigterm_in_the_grace_time_is_no_failure(llmrl, slurm, outputs):
    assert llmrl("run", *LONG, *SUBMIT).code == 0
    (run,) = submitted(outputs)
    slurm.until(lambda: training(run))
    slurm("scancel", "--signal=TERM", "--batch", handle_of(slurm, run))  # as a grace time begins
    slurm.until(lambda: len(starts(run)) == 2)
    slurm.until_empty()
    assert status(run) == "DONE", log(outputs)


def test_three_starts_without_progress_are_enough(llmrl, slurm, nothing_starts, outputs):
    """A limit that ends each start while Python imports."""
    assert llmrl("run", *LONG, *SUBMIT).code == 0
    (run,) = submitted(outputs)
    (batch,) = outputs.glob(".jobs/*/tasks.json")
    write_json(batch.with_name("0.starts"), {"progress": [[f"{run.relative_to(outputs.parent)} 0 0"]], "starts": 3})
    nothing_starts()
    slurm.until_empty()
    assert status(run) == "FAILED" and "no progress over 3 starts" in read_json(run / "status.json")["reason"]


def test_a_run_that_has_to_wait_is_held_and_let_go(llmrl, slurm, outputs):
    """Another process has it; the queue shows SPECIAL_EXIT, and the same submission lets it go on."""
    run = llmrl("run", *QUICK, "seed=5", *SUBMIT, "hydra.launcher.partition=high")
    assert run.code == 0
    (run,) = submitted(outputs)
    with held(run):
        slurm.until(lambda: set(slurm.queue().values()) == {"SPECIAL_EXIT"})
        assert "is running elsewhere" in log(outputs)
    row = rows(llmrl, outputs)[run.name]
    assert row["status"] == "SPECIAL_EXIT" and "the same submission" in row["reason"]
    assert "1 released" in llmrl("run", *QUICK, "seed=5", *SUBMIT).out
    slurm.until_empty()
    assert status(run) == "DONE", log(outputs)


def test_cancelled_runs_checkpoint_and_can_be_submitted_again(llmrl, slurm, outputs):
    assert llmrl("run", "-m", *LONG, "seed=0,1", *SUBMIT, "hydra.launcher.cpus=4").code == 0  # one at a time
    runs = submitted(outputs)
    slurm.until(lambda: any(training(run) for run in runs))
    done = llmrl("cancel", str(outputs))
    assert done.code == 0 and "1 that waited, 1 that run and checkpoint first" in done.out
    slurm.until(lambda: not slurm.queue())
    found = {row["reason"] for row in rows(llmrl, outputs).values()}
    assert found == {"cancelled", "SIGTERM"} and any((run / "checkpoint").exists() for run in runs)
    assert "2 submitted" in llmrl("run", "-m", *LONG, "seed=0,1", *SUBMIT).out


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_of_several_runs_in_one_task_a_failing_one_is_the_exit_code_of_who_waits(llmrl, slurm, outputs):
    ids = "env.id=NoSuchTask-v0,CartPole-v1"
    waits = [*SUBMIT, "hydra.launcher.runs_per_task=2", "hydra.launcher.wait=true"]
    done = llmrl("run", "-m", *QUICK, ids, *waits)
    assert done.code == 1 and "llmrl status outputs" in done.err
    assert sorted(status(run) for run in submitted(outputs)) == ["DONE", "FAILED"], log(outputs)
    (task,) = read_json(next(outputs.glob(".jobs/*/tasks.json")))
    assert sorted(task) == [str(run.relative_to(outputs.parent)) for run in submitted(outputs)]
    reasons = [row["reason"] for row in rows(llmrl, outputs).values()]
    assert any("NoSuchTask" in reason for reason in reasons)
    assert llmrl("run", "-m", *QUICK, "env.id=CartPole-v1", *waits).code == 0

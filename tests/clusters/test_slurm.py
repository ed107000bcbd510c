"""Runs submitted to a real Slurm: whatever it does to them, they end as local runs do, byte for byte."""

import os
import signal
from pathlib import Path

import pytest
from command_line import in_process  # noqa: F401 (the fixture llmrl)
from conftest import SHORT, TINY, run_directories, status
from slurm_cluster import cluster_without_jobs, started_cluster  # noqa: F401 (the fixture slurm)

from llmrl.runs.files import read_json
from llmrl.runs.identity import RunDirectory, code_name, code_state

COMPARED = ("metrics.jsonl", "eval.jsonl", "llm.jsonl", "agent.pt", "result.json")
QUICK = [*TINY["dqn"], "env=classic/cart_pole", "budget.env_steps=60", "eval.every=20", *SHORT]
LONG = [*TINY["dqn"], "env=classic/cart_pole", "budget.env_steps=3000", "eval.every=1000", *SHORT]
SEEDS = ["seed=0,1,2"]
SUBMIT = ["hydra/launcher=slurm", "hydra.launcher.time=10", "hydra.launcher.cpus=1"]


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    return tmp_path / "outputs"


def results(run: Path) -> dict[str, bytes]:
    assert status(run) == "DONE", (run / "status.json").read_text()
    return {name: (run / name).read_bytes() for name in COMPARED if (run / name).exists()}


def equal_to_local(llmrl, outputs: Path, *args: str) -> bool:
    """Whether the runs below `outputs` are what the same sweep leaves on this machine."""
    done = llmrl("run", "-m", *args, "compute.outputs=local")
    assert done.code == 0, done.err
    local = outputs.with_name("local")
    names = [run.relative_to(local) for run in run_directories(local)]
    assert names and names == [run.relative_to(outputs) for run in run_directories(outputs)]
    return all(results(outputs / name) == results(local / name) for name in names)


def training(run: Path) -> bool:
    return read_json(run / "status.json").get("status") == "RUNNING" and (run / "metrics.jsonl").exists()


def queued(outputs: Path) -> list[Path]:
    """Every run that was submitted, begun or not."""
    return sorted(file.parent for file in outputs.glob("*/*/*/s*/status.json"))


def log(outputs: Path) -> str:
    return "".join(file.read_text() for file in sorted(outputs.glob(".jobs/*/*.log")))


def test_a_sweep_is_submitted_once_and_code_is_frozen(llmrl, slurm, outputs):
    """The second submission finds it queued, the third one done."""
    slurm("scontrol", "update", "PartitionName=low", "State=DOWN")  # so that nothing starts
    first = llmrl("run", "-m", *QUICK, "seed=0,1", *SUBMIT)
    assert first.code == 0 and "2 submitted" in first.out, first.err
    runs = queued(outputs)
    assert [status(run) for run in runs] == ["QUEUED", "QUEUED"] and len(slurm.queue()) == 2
    assert "2 in the queue or running" in llmrl("run", "-m", *QUICK, "seed=0,1", *SUBMIT).out
    assert len(slurm.queue()) == 2
    (code,) = (path for path in (outputs / ".code").iterdir())
    marker = code / "llmrl" / "agents" / "dqn.py"
    assert marker.stat().st_mode & 0o222 == 0
    slurm("scontrol", "update", "PartitionName=low", "State=UP")
    slurm.until_empty()
    assert "2 done before" in llmrl("run", "-m", *QUICK, "seed=0,1", *SUBMIT).out
    for run in runs:
        (start,) = read_json(run / "versions.json")["starts"]
        assert code_name(start["code"]) == code_name(code_state())
    assert equal_to_local(llmrl, outputs, *QUICK, "seed=0,1")


def test_preempted_requeued_and_killed(llmrl, slurm, outputs):
    """One run is thrown out for a job of higher priority, one is queued again by its user, one is killed."""
    assert llmrl("run", "-m", *LONG, *SEEDS, *SUBMIT).code == 0
    preempted, requeued, killed = queued(outputs)
    slurm.until(lambda: all(training(run) for run in queued(outputs)))
    slurm("scontrol", "requeue", handle_of(slurm, requeued))
    os.kill(RunDirectory(killed).owner()["pid"], signal.SIGKILL)
    slurm("sbatch", "--partition=high", "--cpus-per-task=4", "--output=/dev/null", "--wrap", "true")
    slurm.until_empty()
    assert status(killed) == "RUNNING" and RunDirectory(killed).status()["reason"] == "killed"
    assert "2 done before" in (again := llmrl("run", "-m", *LONG, *SEEDS, *SUBMIT)).out and "1 submitted" in again.out
    slurm.until_empty()
    for run in (preempted, requeued, killed):
        assert len(read_json(run / "versions.json")["starts"]) == 2, log(outputs)
    assert equal_to_local(llmrl, outputs, *LONG, *SEEDS)


def test_a_failing_run_is_the_exit_code_of_who_waits(llmrl, slurm, outputs):
    ids = "env.id=CartPole-v1,NoSuchTask-v0"
    done = llmrl("run", "-m", *QUICK, ids, *SUBMIT, "hydra.launcher.wait=true")
    assert done.code == 1 and "llmrl status outputs" in done.err
    assert sorted(status(run) for run in queued(outputs)) == ["DONE", "FAILED"], log(outputs)


def handle_of(cluster, run: Path) -> str:
    job = read_json(run / "status.json")["job"]
    name = f"llmrl-{job['batch']}"
    (array,) = set(cluster("squeue", "-h", "-n", name, "-o", "%F").split())
    return f"{array}_{job['tasks'][0]}"

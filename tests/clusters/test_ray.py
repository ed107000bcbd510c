"""Runs on a Ray cluster, a real one of this machine: the same bytes as locally, also where a worker is killed."""

import os
import signal
import subprocess
import sys

import pytest
from command_line import in_process  # noqa: F401 (the fixture llmrl)
from conftest import CART_POLE, ROOT, status
from lab_tables import written_lab  # noqa: F401 (the fixture lab)
from slurm_cluster import until
from submitted_runs import below_tmp, equal_to_local, submitted, training  # noqa: F401 (the fixture outputs)

from llmrl.runs.identity import RunDirectory

os.environ["RAY_AUTH_MODE"] = "disabled"  # before ray is imported: the cluster is this test's alone
ray = pytest.importorskip("ray", reason='Ray is not installed: pip install "llmrl[ray]"')
HEAD = """
import ray
print(ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False).address_info["gcs_address"], flush=True)
input()
"""
SWEEP = ["-m", *CART_POLE, "hydra/launcher=ray", "hydra.launcher.wait=true"]


@pytest.fixture(scope="module")
def cluster():
    """The address of a cluster, which ends with the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        head = subprocess.Popen([sys.executable, "-c", HEAD], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                stderr=subprocess.DEVNULL, text=True)  # fmt: skip
        address = head.stdout.readline().strip()
        patch.setenv("RAY_ADDRESS", address)
        yield address
        ray.shutdown()
        head.communicate("\n")


def test_a_sweep_with_a_failing_run(llmrl, cluster, outputs):
    assert llmrl("run", *SWEEP, "seed=0,1").code == 0
    assert equal_to_local(llmrl, outputs, *CART_POLE, "seed=0,1")
    breaks = ["agent.learning_rate=1e30", "agent.loss=mse", "agent.max_grad_norm=null", "study=breaks"]
    assert llmrl("run", *SWEEP, *breaks).code == 1
    assert [status(run) for run in submitted(outputs / "breaks")] == ["FAILED"]
    assert "2 done before" in llmrl("run", *SWEEP, "seed=0,1").out


def test_a_worker_that_is_killed_loses_nothing(llmrl, cluster, outputs):
    long = [*CART_POLE, "budget.env_steps=3000", "eval.every=1000"]
    done = llmrl("run", "-m", *long, "hydra/launcher=ray", "seed=0,1")
    assert done.code == 0 and "2 submitted" in done.out, done.err
    first = submitted(outputs)[0]
    assert until(lambda: training(first) or status(first) not in ("QUEUED", "RUNNING"), patience_s=120)
    task = RunDirectory(first).owner()["pid"]
    actor = parent(parent(task))
    os.kill(actor, signal.SIGKILL)
    assert llmrl("run", "-m", *long, "hydra/launcher=ray", "hydra.launcher.wait=true", "seed=0,1").code == 0
    assert equal_to_local(llmrl, outputs, *long, "seed=0,1")


def test_a_table_and_those_cancelled_go_on(llmrl, cluster, lab, outputs):
    """What is cancelled checkpoints first; the same command hands it in again."""
    long = ["--set", "budget.env_steps=10000", "--set", "eval.every=5000"]
    table = ["plan", "lab/small", "--row", "CartPole", "--seeds", "0", *long, "--submit", "ray"]
    lab()
    done = llmrl(*table, "--set", "hydra.launcher.runs_per_task=2")
    assert done.code == 0 and "2 submitted" in done.out, done.err
    assert until(lambda: any(training(run) for run in submitted(outputs)), patience_s=120)
    (begun,) = (run for run in submitted(outputs) if training(run))
    assert "Cancelled: 1 that waited, 1 that run and checkpoint first" in llmrl("cancel", "outputs").out
    assert until(lambda: status(begun) != "RUNNING", patience_s=120)
    assert status(begun) == "INTERRUPTED" and list((begun / "checkpoint").iterdir())
    again = [*table, "--set", "hydra.launcher.wait=true"]
    assert until(lambda: llmrl(*again).code == 0, patience_s=240)  # 75 while the one that was cancelled still ends
    assert [status(run) for run in submitted(outputs)] == ["DONE"] * 2


def parent(pid: int) -> int:
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[1])


def test_what_the_cluster_has_not_is_refused(llmrl, cluster, tmp_path):
    done = llmrl("run", *SWEEP, "hydra.launcher.gpus=8")
    assert done.code == 2 and "8 GPUs asked for" in done.err

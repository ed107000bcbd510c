"""A table with a search, submitted to a real Slurm: what runs build on goes first, and all of it equals local runs."""

import pytest
from command_line import in_process  # noqa: F401 (the fixture llmrl)
from conftest import status
from lab_tables import written_lab  # noqa: F401 (the fixture lab)
from slurm_cluster import cluster_without_jobs, started_cluster  # noqa: F401 (the fixture slurm)
from submitted_runs import below_tmp, equal, log, rows, submitted, training  # noqa: F401 (the fixture outputs)
from test_lesr import SMALL

from llmrl.runs.files import read_json

pytestmark = pytest.mark.timeout(900)  # some twenty processes, which a busy machine takes minutes for
SEARCH = [*SMALL, "method.search.k=2", "method.search.iterations=1", "study=lab"]
COLUMNS = {"TD3": ["method=vanilla"], "LESR": [], "random features": ["method.control=random_features"]}
SEEDS = range(6)
SUBMIT = ["--submit", "slurm", "--set", "hydra.launcher.time=20", "--set", "hydra.launcher.cpus=1"]


def of_column(column: str) -> list[str]:
    kept = [text for text in SEARCH if column != "TD3" or not text.startswith("method")]
    return [*kept, *COLUMNS[column]]


@pytest.fixture
def table(lab):
    """18 runs; two of three columns build on one search."""
    columns = {name: of_column(name) for name in COLUMNS}
    lab("eighteen", base=[], rows={"Pendulum": []}, columns=columns, seeds=list(SEEDS))
    return "lab/eighteen"


@pytest.mark.usefixtures("children_here")  # on this machine
def test_eighteen_runs_and_a_search_preempted_and_equal_to_local_ones(llmrl, slurm, table, outputs):
    several = ["--set", "hydra.launcher.runs_per_task=6", "--set", "hydra.launcher.nodes_per_search=2"]
    done = llmrl("plan", table, *SUBMIT, *several)
    assert done.code == 0 and "19 submitted" in done.out, done.err
    assert {state["status"] for state in rows(llmrl, outputs).values()} <= {"QUEUED", "RUNNING"}
    assert "18 runs: " in llmrl("plan", table).out
    slurm.until(lambda: any(training(run) for run in submitted(outputs)))
    slurm("sbatch", "--partition=high", "--cpus-per-task=4", "--output=/dev/null", "--wrap", "true")
    slurm.until(lambda: "SIGUSR2" in log(outputs) or "SIGTERM" in log(outputs))
    slurm.until_empty()
    assert "18 runs: 18 done" in llmrl("plan", table).out, log(outputs)
    assert " submitted" not in llmrl("plan", table, *SUBMIT).out
    for column in COLUMNS:
        sweep = llmrl("run", "-m", *of_column(column), f"seed=range(0,{len(SEEDS)})", "compute.outputs=local")
        assert sweep.code == 0, sweep.err
    assert equal(outputs, outputs.with_name("local"))


def test_a_failed_search_leaves_its_users_lost_and_says_why(llmrl, slurm, outputs):
    fails = [*SEARCH, "env.id=NoSuchTask-v0", "seed=0,1"]
    done = llmrl("run", "-m", *fails, "hydra/launcher=slurm", "hydra.launcher.cpus=1")
    assert done.code == 0 and "3 submitted" in done.out, done.err
    slurm.until_empty()
    found = rows(llmrl, outputs)
    (search,) = [name for name in found if not name.startswith("s")]
    assert found[search]["status"] == "FAILED" and "NoSuchTask" in found[search]["reason"]
    for name in found.keys() - {search}:
        assert found[name]["status"] == "LOST" and f"{search}: " in found[name]["reason"]
        assert "NoSuchTask" in found[name]["reason"]
    assert all(status(run) in ("QUEUED", "FAILED") for run in submitted(outputs))
    assert read_json(next(outputs.glob("artifacts/*/*/status.json")))["status"] == "FAILED"

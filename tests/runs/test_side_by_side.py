"""`hydra/launcher=joblib`, and the workers of `plan --run`: processes of their own, of which one that is killed, or
fails, ends nothing else."""

import os
import signal

import pytest
from conftest import CART_POLE, ROOT, run_directories, status

from llmrl.report.plan import executor
from llmrl.runs.children import worst_code
from llmrl.runs.files import read_json

SIDE_BY_SIDE = ["-m", *CART_POLE, "hydra/launcher=joblib"]


@pytest.fixture(autouse=True)
def this_code(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def test_a_sweep_is_the_same_as_one_after_the_other(llmrl_run, tmp_path):
    done = llmrl_run(*SIDE_BY_SIDE, "seed=0,1,2", "compute.outputs=beside")
    assert done.code == 0 and done.out.count("Done: vanilla · dqn") == 3, done.err  # all that each has printed
    assert llmrl_run("-m", *CART_POLE, "seed=0,1,2", "compute.outputs=behind").code == 0
    a, b = (run_directories(tmp_path / place) for place in ("beside", "behind"))
    assert [run.name for run in a] == [run.name for run in b] and len(a) == 3
    for one, other in zip(a, b):
        assert (one / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()


def test_one_that_fails_stops_no_other_and_counts(llmrl_run, tmp_path):
    done = llmrl_run(*SIDE_BY_SIDE, "agent.learning_rate=1e30,1e-3", "agent.loss=mse", "agent.max_grad_norm=null")
    ends = {read_json(run / "config.json")["agent"]["learning_rate"]: status(run) for run in run_directories(tmp_path)}
    assert done.code == 1 and ends == {1e30: "FAILED", 1e-3: "DONE"}, done.out


def test_a_run_that_waits_does_not_hide_one_that_has_failed():
    assert worst_code([75, 1, 0]) == worst_code([1, 75]) == 1 and worst_code([0, 75, 2]) == 2
    assert worst_code([1, 143, 0]) == 143 and worst_code([75, 0]) == 75 and worst_code([0]) == worst_code([]) == 0


@pytest.mark.parametrize("launcher", ["joblib", "files", "slurm"])
def test_seeds_that_ask_for_one_process_are_refused_by_what_gives_each_its_own(launcher, llmrl_run, tmp_path):
    stacked = ["-m", *CART_POLE, "seed=0,1", "compute.stack=true", f"hydra/launcher={launcher}"]
    refused = llmrl_run(*stacked)
    assert refused.code == 2 and "compute.stack=true" in refused.err and "runs_per_task" in refused.err
    assert list(tmp_path.iterdir()) == []


def test_one_that_was_killed_counts(llmrl_run, monkeypatch):
    """Its directory knows nothing of it but that it was interrupted."""
    killed = executor.Ended(executor.Job("", ()), executor.FAILED, "exit code -9")
    monkeypatch.setattr(executor, "execute", lambda jobs, *_: [killed] * len(jobs))
    assert llmrl_run(*SIDE_BY_SIDE, "seed=0,1").code == 1


def test_a_wrong_launcher_or_key_is_refused(llmrl_run, tmp_path):
    assert "`joblib`" in llmrl_run("-m", *CART_POLE, "hydra/launcher=joblb", "seed=0,1").err
    refused = llmrl_run(*SIDE_BY_SIDE, "hydra.launcher.n_jobs=0", "seed=0,1")
    assert refused.code == 2 and "n_jobs" in refused.err
    assert list(tmp_path.iterdir()) == []


def test_a_worker_that_is_killed_ends_its_run_alone(tmp_path, monkeypatch):
    """The first run is killed while it trains; its slot gets a new worker, and the other runs are made."""
    monkeypatch.chdir(tmp_path)
    long = [*CART_POLE, "budget.env_steps=100000", "eval.every=50000", "study=long"]
    args = [long, *([*CART_POLE, f"seed={seed}"] for seed in range(2))]
    jobs = [executor.Job(str(i), executor.llmrl_run(one)) for i, one in enumerate(args)]
    begin = executor._Pool.begin
    workers = []

    async def watched(self, *given, **more):
        workers.append(await begin(self, *given, **more))
        return workers[-1]

    async def killed(self, given):
        import asyncio

        running = asyncio.ensure_future(carry_out(self, given))
        while "study=long" in given and not running.done():
            if any(status(run) == "RUNNING" for run in run_directories(tmp_path)):
                os.kill(self.process.pid, signal.SIGKILL)
                break
            await asyncio.sleep(0)
        return await running

    carry_out = executor._Worker.carry_out
    monkeypatch.setattr(executor._Pool, "begin", watched)
    monkeypatch.setattr(executor._Worker, "carry_out", killed)
    ended = executor.execute(jobs, 1, [], lambda end: None)
    assert {end.job.name: end.outcome for end in ended} == {"0": "failed", "1": "done", "2": "done"}
    assert len(workers) == 2 and workers[0].returncode == -signal.SIGKILL
    assert sorted(map(status, run_directories(tmp_path))) == ["DONE", "DONE", "RUNNING"]


def test_one_worker_carries_out_run_after_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    jobs = [executor.Job(str(seed), executor.llmrl_run([*CART_POLE, f"seed={seed}"])) for seed in range(3)]
    ended = executor.execute(jobs, 1, [], lambda end: None)
    assert [end.outcome for end in ended] == ["done"] * 3
    assert all("Done: vanilla" in end.output and end.output.count("Done:") == 1 for end in ended)
    assert len({read_json(run / "status.json")["pid"] for run in run_directories(tmp_path)}) == 1

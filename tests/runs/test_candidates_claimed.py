"""A search that several nodes wait for: each trains a candidate that nobody else does; the search is the same."""

import threading

import pytest
from conftest import run_directories, status
from here import CHILDREN
from leases import held
from test_lesr import SMALL, artifact

from llmrl.runs import children
from llmrl.runs.children import claimable, outcome_of, run_all
from llmrl.runs.files import read_json, write_json
from llmrl.runs.lease import Held, Lease
from llmrl.runs.stop import Stop

SEARCH = [*SMALL, "method.search.k=4", "method.search.iterations=1", "compute.workers=1"]


def test_only_what_waits_is_claimed(tmp_path):
    for name, told in (("a", "DONE"), ("b", "FAILED"), ("c", None), ("d", "RUNNING"), ("e", "INTERRUPTED")):
        (tmp_path / "candidates" / name).mkdir(parents=True)
        write_json(tmp_path / "candidates" / name / "config.json", {})
        if told:
            write_json(tmp_path / "candidates" / name / "status.json", {"status": told})
    with held(tmp_path / "candidates" / "d"):
        assert {claimable(tmp_path).name for _ in range(50)} == {"c", "e"}
    with held(tmp_path / "candidates" / "c"), held(tmp_path / "candidates" / "e"):
        assert claimable(tmp_path).name == "d"  # its process is gone


@pytest.mark.usefixtures("children_here")
def test_nodes_that_wait_for_a_search_train_its_candidates(process, llmrl_run, tmp_path):
    """Three seeds on three nodes (which a Slurm job's number tells apart); one makes the search."""
    nodes = [
        process(*SEARCH, f"seed={seed}", env={"SLURM_JOB_ID": f"node{seed}"}, before=CHILDREN) for seed in range(3)
    ]
    for node in nodes:
        done = node.end()
        assert done.code == 0, done.err
    search = artifact(tmp_path / "outputs")
    trained_on = {read_json(run / "status.json")["slurm_job_id"] for run in (search / "candidates").iterdir()}
    assert len(trained_on) >= 2
    assert llmrl_run(*SEARCH, "compute.outputs=alone").code == 0
    alone = artifact(tmp_path / "alone")
    for run in run_directories(search):
        assert status(run) == "DONE"
        for name in ("metrics.jsonl", "eval.jsonl", "llm.jsonl", "agent.pt", "transform.py"):
            same = alone / run.relative_to(search) / name
            assert same.exists() == (run / name).exists()
            assert not same.exists() or same.read_bytes() == (run / name).read_bytes(), name


K, WAVES, NODES = 6, 3, 40


class Wave:
    """In place of a process: a candidate is trained once all of its wave are being trained."""

    def __init__(self) -> None:
        self.barrier = threading.Barrier(K)
        self.trained: list[str] = []

    def submit(self, directory):
        return Claimed(self, directory)


class Claimed:
    def __init__(self, wave, directory):
        self.wave, self.directory, self.lease, self.ended = wave, directory, Lease(directory), threading.Event()
        try:
            self.lease.acquire()
        except Held:
            self.lease = None
            self.ended.set()
        else:
            if outcome_of(directory) is not None:  # another node was quicker: as a run, it is done before it begins
                self.lease.release()
                self.ended.set()

    def tell(self, stop):
        def train():
            if not self.ended.is_set():
                self.wave.barrier.wait(timeout=60)
                self.wave.trained.append(self.directory.name)
                write_json(self.directory / "status.json", {"status": "DONE"})
                self.lease.release()
                self.ended.set()
            stop.wake()

        threading.Thread(target=train, daemon=True).start()

    def done(self):
        return self.ended.is_set()

    def wait(self):
        return 0 if self.lease else 75


def test_forty_nodes_finish_a_search_in_three_waves(tmp_path, monkeypatch):
    """No candidate of a wave ends before all of them are under way, on nodes that train one at a time."""
    monkeypatch.setattr(children, "FIRST_LOOK_S", 0.2)
    monkeypatch.setattr(children, "LAST_LOOK_S", 1.0)
    wave, search = Wave(), tmp_path / "search"
    search.mkdir()
    with held(search):
        nodes = [threading.Thread(target=run_all, args=([search], 1, Stop(), wave)) for _ in range(NODES - 1)]
        for node in nodes:
            node.start()
        for iteration in range(WAVES):
            candidates = [search / "candidates" / f"{iteration}-{k}" for k in range(K)]
            for candidate in candidates:
                candidate.mkdir(parents=True)
                write_json(candidate / "config.json", {})
            ended = run_all(candidates, 1, Stop(), wave)  # the node that makes the search
            assert {outcome.status for outcome in ended} == {"DONE"}
        write_json(search / "status.json", {"status": "DONE"})
    for node in nodes:
        node.join()
    assert sorted(wave.trained) == sorted(f"{i}-{k}" for i in range(WAVES) for k in range(K))

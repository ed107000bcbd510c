"""The lease of a run's directory: who may take it, and that nobody writes into what another one has taken over."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from leases import held

from llmrl.runs import lease
from llmrl.runs.files import DiskError, write_text
from llmrl.runs.lease import Held, Lease, TakenOver, owner_of
from llmrl.runs.log import JsonLines

HOLD = """
import sys
from pathlib import Path
from llmrl.runs.lease import Lease
Lease(Path(sys.argv[1])).acquire()
print("held", flush=True)
sys.stdin.read()
"""


def silent(directory: Path) -> None:
    """As if its owner had not beaten for a day."""
    newest = max(directory.glob("lock.*"), key=lambda file: int(file.suffix[1:]))
    os.utime(newest, (0, newest.stat().st_mtime - 86_400))


@pytest.fixture
def other_process(tmp_path: Path):
    """A process that holds tmp_path."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], env=os.environ | {"PYTHONPATH": str(ROOT)},
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # fmt: skip
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_one_owner_after_the_other(tmp_path):
    with held(tmp_path), pytest.raises(Held, match=f"pid {os.getpid()} on {os.uname().nodename}"):
        Lease(tmp_path).acquire()
    assert names(tmp_path) == ["released.1"] and owner_of(tmp_path) is None
    with held(tmp_path):
        assert names(tmp_path) == ["lock.2"] and owner_of(tmp_path)["pid"] == os.getpid()


def test_who_died_on_this_machine_is_gone_at_once(tmp_path, other_process):
    assert owner_of(tmp_path)["pid"] == other_process.pid
    other_process.kill()
    os.waitid(os.P_PID, other_process.pid, os.WEXITED | os.WNOWAIT)  # it has ended; nobody has reaped it
    assert owner_of(tmp_path) is None
    with held(tmp_path):
        assert names(tmp_path) == ["lock.2"]


def test_who_died_elsewhere_is_gone_after_a_silence(tmp_path, other_process, monkeypatch):
    monkeypatch.setattr(lease, "place", lambda: "another boot, or another namespace of processes")
    other_process.kill()
    other_process.wait()
    with pytest.raises(Held):
        Lease(tmp_path).acquire()
    silent(tmp_path)
    with held(tmp_path):
        assert names(tmp_path) == ["lock.2"]


@pytest.mark.parametrize("job, restart, gone", [("77", "1", True), ("77", "0", False), ("78", "1", False)])
def test_an_earlier_start_of_the_same_slurm_job_is_gone(job, restart, gone, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    with held(tmp_path):
        monkeypatch.setattr(lease, "place", lambda: "another node")
        monkeypatch.setenv("SLURM_JOB_ID", job)
        monkeypatch.setenv("SLURM_RESTART_COUNT", restart)
        assert (owner_of(tmp_path) is None) == gone


def test_who_looked_long_ago_and_comes_late_has_lost(tmp_path, monkeypatch):
    with held(tmp_path), held_again(tmp_path):
        files = lease._files
        seen = iter([{1: tmp_path / "lock.1"}])
        monkeypatch.setattr(lease, "_files", lambda directory: next(seen, None) or files(directory))
        monkeypatch.setattr(lease, "owner_of", lambda directory, by_server: None)
        (tmp_path / "lock.3").write_text("{}")
        with pytest.raises(Held):
            Lease(tmp_path).acquire()
        assert names(tmp_path) == ["lock.2", "lock.3"]


def held_again(directory: Path):
    silent(directory)
    return held(directory)


def test_of_many_contenders_one_wins(tmp_path):
    won = []
    for _ in range(20):
        try:
            Lease(tmp_path).acquire()
            won.append(names(tmp_path))
        except Held:
            continue
    assert won == [["lock.1"]]


def test_whoever_was_taken_over_writes_nothing_more(tmp_path):
    with held(tmp_path) as first:
        log = JsonLines(tmp_path / "metrics.jsonl")
        log.write({"step": 1})
        log.flush()
        log.write({"step": 2})
        with held_again(tmp_path):
            lease._own[os.path.abspath(tmp_path)] = first  # this process plays both
            with pytest.raises(TakenOver, match="taken over by another process"):
                write_text(tmp_path / "below.json", "{}")
            with pytest.raises(TakenOver):
                log.flush()
            log.close()
        assert [json.loads(line) for line in (tmp_path / "metrics.jsonl").open()] == [{"step": 1}]
    assert names(tmp_path) == ["metrics.jsonl", "released.2"]


def test_a_full_disk_leaves_no_half_lock(tmp_path, monkeypatch):
    from llmrl.runs.identity import RunDirectory

    def full(fd, content):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(DiskError):
            RunDirectory(tmp_path).acquire({})
    assert names(tmp_path) == []

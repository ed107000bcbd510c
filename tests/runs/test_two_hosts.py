"""Two machines and one run, on a file system whose mounts share no flock (two bindfs mounts), and where flock fails."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, SHORT, TINY, Process, run_directories, status
from test_lease import silent

from llmrl.runs.files import read_json

RUN = [*TINY["dqn"], "env=classic/cart_pole", "budget.env_steps=300", "eval.every=100", *SHORT]
LONG = [*RUN, "compute.checkpoint_every_s=0"]  # at every env_step
COMPARED = ("metrics.jsonl", "eval.jsonl", "agent.pt", "result.json")
ON = """
from llmrl.runs import lease
lease.place = lambda: {name!r}
"""
SUSPENDED = """
import os, signal
from llmrl.runs.checkpoint import Checkpoints
save = Checkpoints.save
def suspended(self, *args):
    save(self, *args)
    Checkpoints.save = save
    os.kill(os.getpid(), signal.SIGSTOP)
Checkpoints.save = suspended
"""  # by itself, at its first checkpoint: whoever looks from outside may come when it has ended
NO_FLOCK = """
import errno, fcntl
def flock(fd, operation):
    raise OSError(errno.ENOLCK, "flock is not here")
fcntl.flock = fcntl.lockf = flock
"""


class Host:
    """A mount, and processes that take themselves for those of a machine of its own."""

    def __init__(self, name: str, mount: Path) -> None:
        self.name, self.mount = name, mount
        self.started: list[Process] = []

    def run(self, *args: str, before: str = "") -> Process:
        self.started.append(Process(list(args), self.mount, before=ON.format(name=self.name) + before))
        return self.started[-1]

    def suspended(self, *args: str) -> Process:
        """A run that has stopped at its first checkpoint, for a test that sends SIGCONT."""
        process = self.run(*args, before=SUSPENDED)
        assert process.until(lambda: state(process.pid) == "T"), process.end().err
        return process


@pytest.fixture
def hosts(tmp_path):
    if not shutil.which("bindfs") or not os.access("/dev/fuse", os.W_OK):
        pytest.skip("needs bindfs and /dev/fuse: apt-get install bindfs")
    back = tmp_path / "back"
    back.mkdir()
    found = []
    for name in "AB":
        mount = tmp_path / name
        mount.mkdir()
        uncached = "-oattr_timeout=0,entry_timeout=0,negative_timeout=0"
        done = subprocess.run(["bindfs", uncached, back, mount], capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"bindfs cannot mount here: {done.stderr.strip()}")
        found.append(Host(name, mount))
    yield found
    for host in found:
        for process in host.started:
            process.popen.send_signal(signal.SIGCONT)
            process.popen.kill()
            process.popen.wait()
        subprocess.run(["fusermount", "-u", "-z", host.mount], check=True)


def state(pid: int) -> str:
    """ "T" where it is suspended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""


def files(root: Path) -> dict[str, bytes]:
    (run,) = run_directories(root)
    assert status(run) == "DONE"
    return {name: (run / name).read_bytes() for name in COMPARED}


def test_the_mounts_share_no_flock(hosts):
    """Else the others prove nothing."""
    import fcntl

    held = [open(host.mount / "file", "w") for host in hosts]  # noqa: SIM115
    for file in held:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_one_trains_and_the_other_says_who_has_it(hosts, llmrl_run, tmp_path):
    a, b = hosts
    first = a.suspended(*LONG)
    refused = b.run(*LONG).end()
    assert refused.code == 75 and f"pid {first.pid} on {os.uname().nodename}" in refused.err
    first.popen.send_signal(signal.SIGKILL)
    first.popen.wait()
    assert b.run(*LONG).end().code == 75  # it may be alive, as far as B can tell
    (run,) = run_directories(a.mount)
    silent(run)
    done = b.run(*LONG).end()
    assert done.code == 0, done.err
    assert len(read_json(run / "versions.json")["starts"]) == 2
    assert llmrl_run(*RUN, "compute.outputs=whole").code == 0
    assert files(b.mount) == files(tmp_path / "whole")


def test_who_was_suspended_and_taken_over_stops(hosts, llmrl_run, tmp_path):
    a, b = hosts
    first = a.suspended(*LONG)
    (run,) = run_directories(a.mount)
    silent(run)
    done = b.run(*LONG).end()
    assert done.code == 0, done.err
    after = files(b.mount)
    first.popen.send_signal(signal.SIGCONT)
    woken = first.end()
    assert woken.code == 75 and "taken over by another process" in woken.err
    assert files(b.mount) == after and not list(run.glob(".*.tmp")) and not (run / "error.txt").exists()
    assert llmrl_run(*RUN, "compute.outputs=whole").code == 0
    assert after == files(tmp_path / "whole")


def test_of_twenty_nodes_one_takes_a_stale_lease(hosts):
    """Five processes on each of two mounts, twice."""
    for attempt in range(2):
        back = hosts[0].mount / "run"
        back.mkdir(exist_ok=True)
        (back / f"lock.{2 * attempt + 1}").write_text("{}")
        silent(back)
        take = "import sys; from pathlib import Path; from llmrl.runs import lease; lease.place = lambda: sys.argv[1]\n"
        take += "sys.stdin.read(1)\ntry: lease.Lease(Path(sys.argv[2])).acquire(); print('won')\n"
        take += "except lease.Held: print('held')\nsys.stdin.read()\n"
        started = [subprocess.Popen([sys.executable, "-c", take, f"{host.name}{i}", str(host.mount / "run")], text=True,
                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(ROOT)})
                   for host in hosts for i in range(5)]  # fmt: skip
        for process in started:
            process.stdin.write("x")
            process.stdin.flush()
        answers = [process.stdout.readline().strip() for process in started]
        for process in started:
            process.communicate()
        assert sorted(answers) == ["held"] * 9 + ["won"]


def test_where_flock_fails_runs_do_not(process, tmp_path):
    (tmp_path / "shim").mkdir()
    (tmp_path / "shim" / "sitecustomize.py").write_text(NO_FLOCK)
    done = process(*RUN, "budget.env_steps=60", env={"PYTHONPATH": f"{tmp_path / 'shim'}:{ROOT}"}).end()
    assert done.code == 0, done.err
    (run,) = run_directories(tmp_path)
    assert status(run) == "DONE"

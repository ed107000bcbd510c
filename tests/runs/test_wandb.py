"""The wandb mirror, with the real wandb, offline and on a server on loopback: every row once, in order, whatever
happens to the run; and a run does not depend on it."""

import json
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import CART_POLE, ROOT, TINY, below, compose, only_run, status
from wandb_server import wandb_server

from llmrl.runs import wandb_mirror
from llmrl.runs.files import read_json, read_jsonl
from llmrl.runs.log import RunLog
from llmrl.runs.wandb_mirror import Rows, labels

pytest.importorskip("wandb")
LONGER = [*TINY["dqn"], "env=classic/cart_pole", "budget.env_steps=2500", "eval.every=500", "log.every=50",
          "eval.episodes=2", "eval.max_steps=20", "log.progress=false"]  # fmt: skip


@pytest.fixture
def server(monkeypatch):
    """A wandb of our own, for this process and those that it starts."""
    with wandb_server() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        yield server


def train_row(env_steps: int) -> dict:
    return {"kind": "train", "env_steps": env_steps, "loss": env_steps / 10}


def eval_row(env_steps: int) -> dict:
    return {"env_steps": env_steps, "policy": "greedy", "return_mean": 1.5, "returns": [1.0, 2.0]}


def places(rows: list[dict]) -> list[tuple[int, bool]]:
    """(env_steps, whether it is an evaluation) of rows that were sent."""
    return [(row["env_steps"], any(key.startswith("eval/") for key in row)) for row in rows]


def everything(run: Path) -> list[tuple[int, bool]]:
    """The same of a run's files."""
    rows = [(row["env_steps"], False) for row in read_jsonl(run / "metrics.jsonl")]
    rows += [(row["env_steps"], True) for row in read_jsonl(run / "eval.jsonl")]
    return sorted(rows)


# --- the rows ---------------------------------------------------------------------------------------------------------


def test_rows_have_one_order_whenever_somebody_looks(tmp_path):
    log, often = RunLog(tmp_path), Rows(tmp_path)
    seen = []
    for env_steps in (0, 10, 20, 30):
        if env_steps:
            log.metrics(train_row(env_steps))
        if env_steps != 20:
            log.evaluation(eval_row(env_steps))
        seen += often.new()
    log.close()
    seen += often.new(last=True)
    assert seen == list(Rows(tmp_path).new(last=True))
    assert places(seen) == [(0, True), (10, False), (10, True), (20, False), (30, False), (30, True)]
    assert seen[1] == {"env_steps": 10, "train/train/loss": 1.0}


def test_rows_that_a_resume_writes_again_are_passed_over(tmp_path):
    """The rows after the checkpoint are cut, and made again; two of them are at one step."""
    log, rows = RunLog(tmp_path), Rows(tmp_path)
    log.metrics(train_row(10))
    offsets = log.offsets()
    log.metrics({"kind": "episode", "env_steps": 20, "return": 5.0})
    log.metrics(train_row(20))
    log.flush()
    seen = [*rows.new()]
    log.cut(offsets)
    seen += rows.new()
    log.metrics({"kind": "episode", "env_steps": 20, "return": 5.0})
    log.flush()
    seen += rows.new()
    log.metrics(train_row(20))
    log.metrics(train_row(30))
    log.close()
    seen += rows.new(last=True)
    assert [row["env_steps"] for row in seen] == [10, 20, 20, 30]
    assert seen == list(Rows(tmp_path).new(last=True))


def test_what_wandb_shows_of_a_run():
    config = compose([*CART_POLE, "study=lab", "log.wandb_tags=[mine]", "seed=3"])
    about = labels(config, Path("outputs/lab/vanilla-dqn/classic-cart_pole/s3-00000000"))
    assert about["group"] == "lab/vanilla-dqn/classic-cart_pole" and about["project"] == "llmrl"
    assert about["tags"] == ["lab", "vanilla", "dqn", "classic/cart_pole", "seed 3", "mine"]
    config["log"]["wandb_group"] = "all"
    assert labels(config, Path("a/b/c/d"))["group"] == "all"


def sync(folder: Path) -> str:
    """What scripts/sync_wandb.py said."""
    script = ROOT / "scripts" / "sync_wandb.py"
    done = subprocess.run([sys.executable, script, folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def evaluations(folder: Path) -> int:
    return sum(len(read_jsonl(path)) for path in below(folder, "eval.jsonl"))


# --- real runs --------------------------------------------------------------------------------------------------------


def test_killed_and_stopped_it_is_one_run_with_each_row_once(process, server, tmp_path):
    args = [*LONGER, "log.wandb=online"]
    for rows, signum in ((3, signal.SIGKILL), (5, signal.SIGTERM)):
        run = process(*args)
        assert run.until(lambda: evaluations(tmp_path) >= rows), run.end().err  # noqa: B023
        run.send(signum)
    done = process(*args).end()
    assert done.code == 0, done.err
    ((name, sent),) = server.runs.items()
    assert places(server.rows(name)) == everything(only_run(tmp_path))
    assert [row["_step"] for row in server.rows(name)] == list(range(len(sent["history"])))
    assert sent["group"] == "default/vanilla-dqn/classic-cart_pole" and "dqn" in sent["tags"]


def test_a_server_that_hangs_holds_up_nothing_and_gets_the_rows_later(llmrl_run, server, tmp_path, monkeypatch):
    server.hangs.set()
    monkeypatch.setattr(wandb_mirror, "CLOSE_S", 0.5)
    done = llmrl_run(*CART_POLE, "log.wandb=online")
    run = only_run(tmp_path)
    assert done.code == 0 and status(run) == "DONE" and "scripts/sync_wandb.py" in done.err
    server.hangs.clear()
    sync(tmp_path)
    ((name, _),) = server.runs.items()
    assert places(server.rows(name)) == everything(run)


def test_offline_runs_are_sent_later_and_once(llmrl_run, server, tmp_path):
    asks = [*CART_POLE, "method=llm_explorer", "log.wandb_tags=[mine]"]
    assert llmrl_run(*asks, "log.wandb=offline").code == 0
    assert llmrl_run(*CART_POLE, "log.wandb=off", "study=off").code == 0
    assert server.runs == {}
    assert "rows sent, 0 were there" in sync(tmp_path) and " 0 rows sent" in sync(tmp_path)
    ((name, shown),) = server.runs.items()
    (run,) = (path for path in (tmp_path / "outputs" / "default").rglob("s0-*"))
    assert places(server.rows(name)) == everything(run) and "mine" in shown["tags"]
    llm, counted = read_json(run / "result.json")["llm"], {}
    for row in server.rows(name):
        counted |= {key: value for key, value in row.items() if key.startswith("llm/")}
    assert llm["calls"] == counted["llm/calls"] > 0 and counted["llm/usd"] == llm["usd"]
    assert counted["llm/prompt_tokens"] == llm["prompt_tokens"]


def test_without_a_key_the_run_is_a_run(llmrl_run, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(wandb_mirror, "CLOSE_S", 20.0)
    done = llmrl_run(*CART_POLE, "log.wandb=online")
    assert done.code == 0 and "log.wandb: the mirror stopped" in done.err and "jsonl files go on" in done.err
    assert status(only_run(tmp_path)) == "DONE"


def test_a_mirrored_run_is_the_same_run(llmrl_run, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    assert llmrl_run(*CART_POLE, "log.wandb=offline", "study=mirrored").code == 0
    assert llmrl_run(*CART_POLE, "study=plain").code == 0
    a, b = (only_run(tmp_path / "outputs" / study) for study in ("mirrored", "plain"))
    assert a.name == b.name
    assert (a / "metrics.jsonl").read_bytes() == (b / "metrics.jsonl").read_bytes()


def stored_records(file: Path) -> Iterator[bytes]:
    """The records of a .wandb file: a log of blocks of 32 KiB, in which a record may stand in several pieces, each
    after a header of checksum, length and type (1 whole, 2 first, 3 middle, 4 last)."""
    data = file.read_bytes()
    at, record = 7, b""  # the file's own header is 7 bytes
    while at + 7 <= len(data):
        if (1 << 15) - at % (1 << 15) < 7:  # no header fits into the rest of the block
            at += (1 << 15) - at % (1 << 15)
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield record
            record = b""


def history(folder: Path) -> list[dict]:
    """The rows that wandb has stored in an offline run."""
    from wandb.proto.wandb_internal_pb2 import Record

    (file,) = folder.glob("*.wandb")
    records = [Record.FromString(data) for data in stored_records(file)]
    return [
        {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for record in records
        if record.WhichOneof("record_type") == "history"
    ]


def test_the_real_wandb_offline(process, tmp_path):
    """Stopped once and continued: two offline folders, which together hold each row once and in order."""
    args = [*LONGER, "log.wandb=offline"]
    run = process(*args)
    assert run.until(lambda: evaluations(tmp_path) >= 3), run.end().err
    assert run.send(signal.SIGTERM).code == 143
    done = process(*args).end()
    assert done.code == 0, done.err
    directory = only_run(tmp_path)
    folders = sorted((directory / "wandb").glob("offline-run-*"))
    assert len(folders) == 2
    assert places([row for folder in folders for row in history(folder)]) == everything(directory)
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"]  # wandb writes nowhere else


def test_wandb_off_is_the_default():
    assert compose(CART_POLE)["log"]["wandb"] == "off"

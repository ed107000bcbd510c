"""The wandb mirror, with the real wandb offline: every row once, in order; and a run does not depend on it."""

import json
import signal
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import CART_POLE, TINY, below, compose, only_run, status

from llmrl.runs.files import read_json, read_jsonl
from llmrl.runs.log import RunLog, WandbMirror

wandb = pytest.importorskip("wandb")


class Sent:
    """Stands for wandb's run, and remembers what it was sent."""

    def __init__(self) -> None:
        self.rows: list[dict] = []
        self.finished = False

    def define_metric(self, *args, **kwargs) -> None:
        """wandb orders by this metric; the rows are the same without."""

    def log(self, row: dict) -> None:
        self.rows.append(row)

    def finish(self) -> None:
        self.finished = True


def mirrored(directory: Path, monkeypatch) -> tuple[RunLog, Sent]:
    sent = Sent()
    monkeypatch.setattr(wandb, "init", lambda **settings: sent)
    return RunLog(directory, WandbMirror(directory, mode="offline", project="test", config={})), sent


def train_row(env_steps: int) -> dict:
    return {"kind": "train", "env_steps": env_steps, "loss": env_steps / 10}


def steps(sent: Sent, name: str = "train/train/loss") -> list[int]:
    return [row["env_steps"] for row in sent.rows if name in row]


def test_rows_arrive_once_and_in_order(tmp_path, monkeypatch):
    log, sent = mirrored(tmp_path, monkeypatch)
    for env_steps in (10, 20, 30):
        log.metrics(train_row(env_steps))
        log.flush()
    log.evaluation({"env_steps": 30, "policy": "greedy", "return_mean": 1.5, "returns": [1.0, 2.0]})
    log.close()
    assert steps(sent) == [10, 20, 30]
    assert sent.rows[-1] == {"env_steps": 30, "eval/greedy/return_mean": 1.5}
    assert sent.finished


def test_a_resume_sends_nothing_twice(tmp_path, monkeypatch):
    """The rows after the checkpoint were sent, are cut, and are made again."""
    log, first = mirrored(tmp_path, monkeypatch)
    log.metrics(train_row(10))
    offsets = log.offsets()
    for env_steps in (20, 30):
        log.metrics(train_row(env_steps))
    log.flush()  # and then the process is killed
    log, second = mirrored(tmp_path, monkeypatch)
    log.cut(offsets)
    for env_steps in (20, 30, 40):
        log.metrics(train_row(env_steps))
        log.flush()
    log.close()
    assert steps(first) + steps(second) == [10, 20, 30, 40]


def test_two_rows_at_one_step_survive_a_resume(tmp_path, monkeypatch):
    """An episode ends at the step at which losses are logged, and the mirror is killed between the two."""
    log, first = mirrored(tmp_path, monkeypatch)
    offsets = log.offsets()
    log.metrics({"kind": "episode", "env_steps": 10, "return": 5.0})
    log.flush()
    log, second = mirrored(tmp_path, monkeypatch)
    log.cut(offsets)
    log.metrics({"kind": "episode", "env_steps": 10, "return": 5.0})
    log.metrics(train_row(10))
    log.metrics(train_row(20))
    log.close()
    assert steps(first, "train/episode/return") + steps(second, "train/episode/return") == [10]
    assert steps(second) == [10, 20]


def test_a_mirror_that_breaks_does_not_break_the_run(llmrl_run, tmp_path, monkeypatch):
    class Broken(Sent):
        def log(self, row: dict) -> None:
            raise ConnectionError("wandb is down")

    monkeypatch.setattr(wandb, "init", lambda **settings: Broken())
    done = llmrl_run(*CART_POLE, "log.wandb=online")
    assert done.code == 0 and "the mirror stopped (wandb is down)" in done.err
    assert status(only_run(tmp_path)) == "DONE"


def test_a_mirror_that_cannot_start_does_not_break_the_run(llmrl_run, tmp_path, monkeypatch):
    def fails(**settings):
        raise RuntimeError("no api key")

    monkeypatch.setattr(wandb, "init", fails)
    done = llmrl_run(*CART_POLE, "log.wandb=online")
    assert done.code == 0 and "no mirror (no api key)" in done.err
    assert status(only_run(tmp_path)) == "DONE"


def test_a_mirrored_run_is_the_same_run(llmrl_run, tmp_path, monkeypatch):
    monkeypatch.setattr(wandb, "init", lambda **settings: Sent())
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
    args = [*TINY["dqn"], "env=classic/cart_pole", "budget.env_steps=2500", "eval.every=500", "log.every=50",
            "eval.episodes=2", "eval.max_steps=20", "log.progress=false", "log.wandb=offline"]  # fmt: skip
    run = process(*args)
    sent = lambda: below(tmp_path, "wandb_rows_sent.json")  # noqa: E731
    assert run.until(lambda: any(path.stat().st_size for path in sent())), run.end().err
    assert run.send(signal.SIGTERM).code == 143
    done = process(*args).end()
    assert done.code == 0, done.err
    directory = only_run(tmp_path)
    folders = sorted((directory / "wandb").glob("offline-run-*"))
    assert len(folders) == 2
    rows = [row for folder in folders for row in history(folder)]
    train = [row["env_steps"] for row in rows if any(key.startswith("train/train/") for key in row)]
    assert train == [row["env_steps"] for row in read_jsonl(directory / "metrics.jsonl") if row["kind"] == "train"]
    evaluations = [row["env_steps"] for row in rows if any(key.startswith("eval/greedy/") for key in row)]
    assert evaluations == [0, 500, 1000, 1500, 2000, 2500]
    assert read_json(directory / "config.json")["log"]["wandb"] == "offline"
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"]  # wandb writes nowhere else


def test_wandb_off_is_the_default():
    assert compose(CART_POLE)["log"]["wandb"] == "off"

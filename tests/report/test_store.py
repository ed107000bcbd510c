"""Runs on disk become records: what is whole is read exactly, what is not is named and gives no number."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import CART_POLE
from leases import held

from llmrl.report.store import index, reading
from llmrl.report.store.files import DamagedFile
from llmrl.report.store.groups import select
from llmrl.report.store.loading import load
from llmrl.report.store.record import RunRecord, score
from llmrl.runs.files import read_json, write_json

LONG_AGO = 1_700_000_000
CODE = {"version": "0.1.0", "commit": "c" * 40}


def lines(*rows: dict) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def evaluation(env_steps: int, returns: list[float], policy: str = "greedy") -> dict:
    return {"env_steps": env_steps, "policy": policy, "return_mean": float(np.mean(returns)), "returns": returns}


def episodes(n: int) -> list[dict]:
    """Episode i, counted from 1, returns i and ends after 10 i env_steps; a row of training metrics after each."""
    rows = [{"kind": "episode", "env_steps": 10 * i, "return": float(i), "length": 10} for i in range(1, n + 1)]
    return [x for row in rows for x in (row, {"kind": "train", "env_steps": row["env_steps"], "loss": 0.5})]


def make_run(outputs: Path, *, study="main", seed=0, status="DONE", evals=None, train=None, codes=(CODE,)) -> Path:
    """A run directory as `llmrl run` leaves it."""
    path = outputs / study / "vanilla-td3" / "mujoco-hopper" / f"s{seed}-0000000{seed}"
    path.mkdir(parents=True)
    config = {"choices": {"method": "vanilla", "agent": "td3", "env": "mujoco/hopper"}, "llm": {"model": "m"}}
    write_json(path / "config.json", config)
    write_json(path / "identity.json", {"seed": seed})
    write_json(path / "status.json", {"status": status, "env_steps": 20, "target_env_steps": 20})
    write_json(path / "versions.json", {"starts": [{"code": c, "packages": {"torch": "2"}} for c in codes]})
    default = [evaluation(0, [0.0, 1.0], "random"), *(evaluation(x, [x + 0.1, x + 0.2]) for x in (0, 10, 20))]
    (path / "eval.jsonl").write_text(lines(*(default if evals is None else evals)))
    (path / "metrics.jsonl").write_text(lines(*(episodes(3) if train is None else train)))
    speeds = (0.0, 90.0, 110.0, 100.0, 0.0)
    (path / "timing.jsonl").write_text(lines(*({"env_steps": 1, "env_steps_per_s": x} for x in speeds)))
    if status == "DONE":
        write_json(path / "result.json", {"env_steps": 20, "llm": {"model": "m", "calls": 4, "usd": 0.5}})
    return path


def age(outputs: Path) -> None:
    """Makes all files old enough for the index."""
    for path in outputs.rglob("*"):
        os.utime(path, (LONG_AGO, LONG_AGO))


def only(outputs: Path) -> RunRecord:
    (record,) = load(outputs)
    return record


def index_of(outputs: Path) -> Path:
    return outputs / ".index" / "main.npz"


def told(a: RunRecord, b: RunRecord) -> bool:
    """Whether two records hold the same."""
    same = all(getattr(a, name) == getattr(b, name) for name in [*index.FACTS, "path"])
    steps = np.array_equal(a.evals.steps, b.evals.steps)
    return same and steps and np.array_equal(a.evals.returns, b.evals.returns, equal_nan=True)


# --- what a record holds ----------------------------------------------------------------------------------------------


def test_a_real_run(llmrl_run, tmp_path):
    done = llmrl_run(*CART_POLE, "method=llm_explorer", "study=real")
    assert done.code == 0
    record = only(tmp_path / "outputs")
    result = read_json(record.path / "result.json")
    assert (record.study, record.method, record.agent, record.env) == (
        "real",
        "llm_explorer",
        "dqn",
        "classic/cart_pole",
    )
    assert (record.status, record.steps, record.target_steps, record.damage) == ("DONE", 60, 60, ())
    assert record.evals.steps.tolist() == [0, 20, 40, 60] and record.evals.returns.shape == (4, 2)
    assert len(record.random) == 2 and record.code in record.codes and "torch" in record.packages
    assert record.llm == result["llm"] and record.llm["model"] == "scripted"
    assert record.train.lengths.sum() <= 60 and record.train_last[1] == len(record.train.returns) == result["episodes"]
    assert record.config["seed"] == 0 and record.identity["env_steps"] == 60
    assert record.path.name == f"s{record.seed}-{record.id}"


def test_scores(tmp_path):
    evals = [evaluation(i, [v, v]) for i, v in zip((0, 5, 10, 20), (1.0, 9.0, 2.0, 4.0))]
    make_run(tmp_path, evals=evals, train=episodes(250))
    record = only(tmp_path)
    assert score(record, "last") == 4
    assert score(record, "best") == 9
    assert score(record, "mean_last_k", k=2) == 3
    assert score(record, "mean_last_k", k=100) == 4
    assert score(record, "train_last_100") == pytest.approx(200.5)  # 151 … 250
    assert record.train.returns.tolist() == list(range(1, 251))
    assert record.steps_per_s == 100


def test_few_training_episodes_are_counted(tmp_path):
    make_run(tmp_path)
    assert only(tmp_path).train_last == (2.0, 3)


def test_the_last_episodes_are_found_however_far_back(tmp_path):
    rows = [{"kind": "train", "env_steps": i, "filler": "x" * 100} for i in range(2000)]
    make_run(tmp_path, train=[*episodes(120), *rows])
    assert only(tmp_path).train_last == (70.5, 100)  # 21 … 120


def test_evaluations_of_unequal_length_are_padded(tmp_path):
    make_run(tmp_path, evals=[evaluation(0, [1.0, 3.0]), evaluation(20, [4.0])])
    record = only(tmp_path)
    np.testing.assert_array_equal(record.evals.returns, [[1, 3], [4, np.nan]])
    assert record.evals.means.tolist() == [2, 4]


def test_a_run_without_evaluations_has_no_score(tmp_path):
    make_run(tmp_path, evals=[], train=[])
    record = only(tmp_path)
    assert not record.damaged
    assert score(record, "last") is None and score(record, "train_last_100") is None


def test_mixed_versions_are_told(tmp_path):
    other = {"version": "0.1.0", "commit": "d" * 40, "patch_sha": "abc"}
    make_run(tmp_path, codes=(CODE, other, CODE))
    make_run(tmp_path, seed=1, codes=(other,))
    first, second = load(tmp_path)
    assert first.codes == ("c" * 10, "d" * 10 + "+abc") and first.code == "c" * 10
    assert second.codes == ("d" * 10 + "+abc",)


def test_llm_calls_of_an_unfinished_run_are_counted_from_its_transcript(tmp_path):
    path = make_run(tmp_path, status="PAUSED")
    call = {"kind": "call", "purpose": "p", "messages": [], "answer": "", "prompt_tokens": 3, "completion_tokens": 2}
    calls = [call | {"index": str(i), "usd": 0.25} for i in range(2)]
    failure = {"kind": "failure", "purpose": "p", "index": "2", "reason": "timeout", "detail": ""}
    (path / "llm.jsonl").write_text(lines(*calls, failure) + '{"torn')
    llm = only(tmp_path).llm
    assert (llm["model"], llm["calls"], llm["usd"], llm["failures"]) == ("m", 2, 0.5, {"timeout": 1})


# --- which directories count ------------------------------------------------------------------------------------------


def test_only_runs_count_and_each_once(tmp_path):
    run = make_run(tmp_path)
    make_run(tmp_path, study="group/inner")
    for elsewhere in (".replaced/main", ".sweeps/main", "artifacts/lesr"):
        shutil.copytree(run, tmp_path / elsewhere / run.name)
    shutil.copytree(run, run / "children" / "s0-11111111")
    (tmp_path / "sb3" / "mujoco-hopper" / "s0").mkdir(parents=True)
    (tmp_path / "README.md").write_text("")
    assert [r.study for r in load(tmp_path)] == ["group/inner", "main"]
    assert [r.study for r in load(tmp_path, studies=["group/inner"])] == ["group/inner"]
    assert load(tmp_path, studies=["other"]) == []
    assert load(tmp_path / "nowhere") == []


# --- damage -----------------------------------------------------------------------------------------------------------


def spoil_line(file: Path, number: int, text: str) -> None:
    rows = file.read_text().splitlines()
    rows[number - 1] = text
    file.write_text("\n".join(rows) + "\n")


GOOD = json.dumps(evaluation(10, [1.0, 2.0]))


@pytest.mark.parametrize(
    "file, line, text, says",
    [
        ("eval.jsonl", 3, "\x00\x00\x00", "eval.jsonl, line 3: not a JSON object"),
        ("eval.jsonl", 3, GOOD[:40], "eval.jsonl, line 3: not a JSON object"),
        ("eval.jsonl", 3, GOOD + GOOD, "eval.jsonl, line 3: not a JSON object"),
        ("eval.jsonl", 3, f"{GOOD}, {GOOD}", "eval.jsonl, line 3: not a JSON object"),
        ("eval.jsonl", 3, "", "eval.jsonl, line 3: not a JSON object"),
        ("eval.jsonl", 3, '{"env_steps": 10}', "eval.jsonl, line 3: not an evaluation"),
        ("eval.jsonl", 3, GOOD.replace("[1.0", "[7.0"), "eval.jsonl, line 3: return_mean is not the mean"),
        (
            "eval.jsonl",
            3,
            GOOD.replace("1.0, 2.0", ""),
            "line 3: not an evaluation (ValueError: no episode)",
        ),
        ("eval.jsonl", 3, GOOD.replace("[1.0", "[NaN"), "eval.jsonl, line 3: return_mean is not the mean"),
        ("eval.jsonl", 4, GOOD, "eval.jsonl, line 4: env_steps do not rise"),
        ("metrics.jsonl", 2, "no row", "metrics.jsonl, line 2: not a JSON object"),
        ("status.json", 2, "?", "status.json, line 2: not JSON"),
        ("config.json", 1, "[", "config.json, line"),
        ("result.json", 1, "[]", "result.json, line"),
    ],
)
def test_a_corrupt_line_is_named_and_the_run_gives_no_number(tmp_path, file, line, text, says):
    make_run(tmp_path)
    spoil_line(make_run(tmp_path, seed=1) / file, line, text)
    whole, damaged = load(tmp_path)
    assert not whole.damaged and score(whole, "last") == pytest.approx(20.15)
    assert damaged.damaged and any(says in what for what in damaged.damage), damaged.damage
    assert (damaged.method, damaged.agent, damaged.env, damaged.seed) == ("vanilla", "td3", "mujoco/hopper", 1)
    assert all(score(damaged, kind) is None for kind in ("last", "best", "mean_last_k", "train_last_100"))
    assert not len(damaged.evals.steps) and damaged.random is None


def test_a_line_far_back_is_named_when_all_episodes_are_asked_for(tmp_path):
    path = make_run(tmp_path, train=episodes(1000))
    spoil_line(path / "metrics.jsonl", 7, "{")
    record = only(tmp_path)
    assert record.train_last == (950.5, 100)
    with pytest.raises(DamagedFile, match=r"metrics\.jsonl, line 7"):
        _ = record.train


def test_the_line_number_is_the_files_though_only_its_end_was_read(tmp_path):
    path = make_run(tmp_path, train=episodes(1000))
    spoil_line(path / "metrics.jsonl", 1999, "{")
    assert "metrics.jsonl, line 1999:" in only(tmp_path).damage[0]


@pytest.mark.parametrize("name", [*reading.ALWAYS, *reading.WHEN_DONE])
def test_a_directory_deleted_half_way_is_shown(tmp_path, name):
    (make_run(tmp_path) / name).unlink()
    record = only(tmp_path)
    assert any(f"{name}: is missing" in what for what in record.damage)
    assert record.env == "mujoco/hopper" and score(record, "last") is None


def test_brackets_without_end_are_damage_as_other_text_is(tmp_path):
    (make_run(tmp_path) / "config.json").write_text("[" * 100_000)
    (record,) = select([tmp_path])
    assert record.damaged and "nested too deeply" in record.damage[0]


def test_an_empty_directory_is_shown(tmp_path):
    path = make_run(tmp_path)
    shutil.rmtree(path)
    path.mkdir()
    record = only(tmp_path)
    assert record.status == "" and record.damaged and record.env == "mujoco/hopper"


def test_a_shortened_file_of_a_finished_run_is_damage(tmp_path):
    path = make_run(tmp_path)
    text = (path / "eval.jsonl").read_text().splitlines(keepends=True)
    (path / "eval.jsonl").write_text("".join(text[:-1]))
    assert "ends at 10 env_steps, the run at 20" in only(tmp_path).damage[0]
    (path / "eval.jsonl").write_text("".join(text)[:-5])
    assert "eval.jsonl, line 4" in only(tmp_path).damage[0]


def test_a_torn_last_line_of_an_unfinished_run_is_left_out(tmp_path):
    path = make_run(tmp_path, status="INTERRUPTED")
    for name in ("eval.jsonl", "metrics.jsonl"):
        with open(path / name, "a") as file:
            file.write('{"env_steps": 30, "pol')
    record = only(tmp_path)
    assert not record.damaged and record.evals.steps.tolist() == [0, 10, 20] and record.train_last == (2.0, 3)


# --- status -----------------------------------------------------------------------------------------------------------


def test_running_is_what_holds_the_lock_and_killed_what_does_not(tmp_path):
    path = make_run(tmp_path, status="RUNNING")
    age(tmp_path)
    with held(path):
        assert only(tmp_path).status == "RUNNING"
        assert only(tmp_path).status == "RUNNING"
    record = only(tmp_path)  # no file has changed since
    assert (record.status, record.reason) == ("INTERRUPTED", "killed")


def test_a_run_that_just_starts_is_no_damage(tmp_path):
    path = make_run(tmp_path)
    for name in ("config.json", "status.json", "result.json"):
        (path / name).unlink()
    with held(path):
        record = only(tmp_path)
        assert (record.status, record.reason, record.damage) == ("RUNNING", "starting", ())
    assert only(tmp_path).damaged


# --- the index --------------------------------------------------------------------------------------------------------


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """Names of the runs that are read from their files."""
    seen: list[str] = []
    read = reading.read_run
    monkeypatch.setattr(reading, "read_run", lambda path, outputs: seen.append(path.name) or read(path, outputs))
    return seen


def test_a_second_load_reads_no_run_and_tells_the_same(tmp_path, reads):
    make_run(tmp_path, evals=[evaluation(0, [1.0, 3.0]), evaluation(20, [4.0])])
    make_run(tmp_path, seed=1, evals=[])
    make_run(tmp_path, seed=2, study="other")
    age(tmp_path)
    first = load(tmp_path)
    assert len(reads) == 3
    second = load(tmp_path)
    assert len(reads) == 3
    assert all(told(a, b) for a, b in zip(first, second, strict=True))


def test_a_run_that_changed_is_read_again_and_one_that_went_is_gone(tmp_path, reads):
    paths = [make_run(tmp_path, seed=seed) for seed in range(3)]
    age(tmp_path)
    load(tmp_path)
    reads.clear()
    rows = (paths[1] / "eval.jsonl").read_text()
    (paths[1] / "eval.jsonl").write_text(rows + lines(evaluation(30, [7.0])))
    shutil.rmtree(paths[2])
    first, second = load(tmp_path)
    assert reads == [paths[1].name]
    assert score(first, "last") == pytest.approx(20.15) and score(second, "last") == 7


def test_same_size_and_other_time_is_read_again(tmp_path, reads):
    path = make_run(tmp_path)
    age(tmp_path)
    load(tmp_path)
    size = (path / "eval.jsonl").stat().st_size
    rows = [evaluation(0, [0.0, 1.0], "random"), *(evaluation(x, [x + 0.3, x + 0.4]) for x in (0, 10, 20))]
    (path / "eval.jsonl").write_text(lines(*rows))
    os.truncate(path / "eval.jsonl", max(size, (path / "eval.jsonl").stat().st_size))
    os.utime(path / "eval.jsonl", (LONG_AGO + 1, LONG_AGO + 1))
    load(tmp_path)
    assert reads == [path.name] * 2


def test_fresh_running_and_damaged_runs_are_never_indexed(tmp_path, reads):
    make_run(tmp_path)
    load(tmp_path)
    assert not index_of(tmp_path).exists()  # its files are younger than what a time stamp tells apart
    (make_run(tmp_path, seed=1) / "eval.jsonl").write_text("{\n")
    age(tmp_path)
    load(tmp_path)
    reads.clear()
    load(tmp_path)
    assert reads == ["s1-00000001"]


@pytest.mark.parametrize("harm", ["garbage", "flipped", "cut", "format", "fields"])
def test_a_wrong_index_is_made_anew(tmp_path, reads, harm, monkeypatch):
    make_run(tmp_path)
    age(tmp_path)
    if harm == "format":
        monkeypatch.setattr(index, "FORMAT", 0)
    first = only(tmp_path)
    monkeypatch.undo() if harm == "format" else None
    file = index_of(tmp_path)
    data = bytearray(file.read_bytes())
    if harm == "garbage":
        file.write_bytes(b"no index")
    elif harm == "flipped":
        at = data.find(np.float64(20.1).tobytes())
        data[at + 7] ^= 1
        file.write_bytes(data)
    elif harm == "cut":
        file.write_bytes(data[: len(data) // 2])
    elif harm == "fields":
        with np.load(file) as held:
            parts = dict(held)
        head = json.loads(parts["head"].tobytes())
        del head["runs"][0]["seed"]
        parts["head"] = np.frombuffer(json.dumps(head).encode(), np.uint8)
        np.savez(file, **parts)
    reads.clear()
    assert told(only(tmp_path), first)
    again = only(tmp_path)
    assert told(again, first) and len(reads) == (0 if harm == "format" else 1)


def test_outputs_that_cannot_be_written_load_all_the_same(tmp_path):
    make_run(tmp_path)
    age(tmp_path)
    (tmp_path / ".index").write_text("in the way")
    assert only(tmp_path).status == "DONE"


def test_many_runs_are_read_by_several_processes_in_order(tmp_path, monkeypatch):
    for seed in range(6):
        make_run(tmp_path, seed=seed)
    alone = load(tmp_path)
    monkeypatch.setattr(reading, "MANY", 1)
    together = load(tmp_path)
    assert [r.seed for r in together] == list(range(6))
    assert all(told(a, b) for a, b in zip(alone, together, strict=True))


def test_many_runs_that_end_at_once_leave_a_whole_index(tmp_path):
    """200 of them, and eight readers that write the index meanwhile."""
    from concurrent.futures import ThreadPoolExecutor

    first = make_run(tmp_path)

    def end(seed: int) -> int:
        path = first.with_name(f"s{seed}-{seed:08x}")
        shutil.copytree(first, path)
        for file in path.iterdir():
            os.utime(file, (LONG_AGO, LONG_AGO))
        return len(load(tmp_path))

    age(tmp_path)
    with ThreadPoolExecutor(8) as readers:
        list(readers.map(end, range(1, 200)))
    records = load(tmp_path)
    known = index.read(index_of(tmp_path), tmp_path)
    assert len(records) == len(known) == 200
    assert all(told(record, known[str(record.path.relative_to(tmp_path))][1]) for record in records)
    assert not list(index_of(tmp_path).parent.glob("*tmp*"))

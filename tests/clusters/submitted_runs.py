"""What the tests of submitted runs share: how runs below outputs/ stand, and whether they equal local ones. The fixture
`outputs` is where they lie."""

import json
from pathlib import Path

import pytest
from conftest import below, run_directories, status

from llmrl.runs.files import read_json

COMPARED = ("metrics.jsonl", "eval.jsonl", "llm.jsonl", "agent.pt", "result.json")


@pytest.fixture(name="outputs")
def below_tmp(tmp_path: Path) -> Path:
    return tmp_path / "outputs"


def results(run: Path) -> dict[str, bytes]:
    assert status(run) == "DONE", (run / "status.json").read_text()
    left = {name: (run / name).read_bytes() for name in COMPARED if (run / name).exists()}
    return left | {"result.json": left["result.json"].replace(b'"local/', b'"outputs/')}


def equal(outputs: Path, local: Path) -> bool:
    """Whether the runs below the two are the same, byte for byte."""
    names = [run.relative_to(local) for run in run_directories(local)]
    assert names and names == [run.relative_to(outputs) for run in run_directories(outputs)]
    return all(results(outputs / name) == results(local / name) for name in names)


def equal_to_local(llmrl, outputs: Path, *args: str) -> bool:
    """Whether the runs are what the same sweep leaves on this machine."""
    done = llmrl("run", "-m", *args, "compute.outputs=local")
    assert done.code == 0, done.err
    return equal(outputs, outputs.with_name("local"))


def submitted(outputs: Path) -> list[Path]:
    """Every run that was, begun or not."""
    return sorted(file.parent for file in below(outputs, "status.json"))


def training(run: Path) -> bool:
    return status(run) == "RUNNING" and (run / "metrics.jsonl").exists()


def handle_of(cluster, run: Path) -> str:
    job = read_json(run / "status.json")["job"]
    (array,) = set(cluster("squeue", "-h", "-n", f"llmrl-{job['batch']}", "-o", "%F").split())
    return f"{array}_{job['tasks'][0]}"


def log(outputs: Path) -> str:
    return "".join(file.read_text() for file in sorted(outputs.glob(".jobs/*/*.log")))


def rows(llmrl, directory: Path) -> dict[str, dict]:
    """What `llmrl status --json` says of each run, by the name of its directory."""
    done = llmrl("status", str(directory), "--json")
    assert done.code == 0, done.err
    return {Path(row["path"]).name: row for row in json.loads(done.out)}

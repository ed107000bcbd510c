"""Commands over runs whose files are damaged, and over places that cannot be written: exit 2 with a line."""

import shutil
from pathlib import Path

import pytest
from command_line import in_process  # noqa: F401 (the fixture llmrl)
from conftest import CART_POLE, only_run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run's outputs, made once."""
    return tmp_path_factory.mktemp("finished") / "outputs"


@pytest.fixture
def run(finished, llmrl, tmp_path) -> Path:
    if not finished.exists():
        assert llmrl("run", *CART_POLE, f"compute.outputs={finished}").code == 0
    shutil.copytree(finished, tmp_path / "outputs")
    return only_run(tmp_path / "outputs").relative_to(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"x": 1}', b"\xff", b"[" * 100_000])
@pytest.mark.parametrize("file", ["config.json", "result.json", "agent.pt"])
def test_eval_names_the_file_that_is_damaged(file, content, run, llmrl):
    (run / file).write_bytes(content)
    done = llmrl("eval", str(run), "--episodes", "1")
    assert done.code == 2 and "Traceback" not in done.err and done.out == ""
    assert str(run / file) in done.err or "configuration" in done.err or "unknown key" in done.err, done.err
    assert not (run / "evaluations.jsonl").exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"[1]", b'{"status": 5}', b"null"])
@pytest.mark.parametrize("command", ["status", "plot", "report"])
def test_a_status_that_is_none_hides_no_other_fault(command, content, run, llmrl):
    (run / "status.json").write_bytes(content)
    done = llmrl(command, "outputs")
    assert done.code == (0 if command == "status" else 2) and "Traceback" not in done.err
    assert command == "status" or "status.json" in done.err, done.err


@pytest.mark.parametrize("command, out", [("plot", "a_file"), ("plot", "a_file/x"), ("plot", "/proc/x"),
                                          ("report", "outputs"), ("report", "/proc/x")])  # fmt: skip
def test_a_place_that_cannot_be_written(command, out, run, llmrl, tmp_path):
    (tmp_path / "a_file").write_text("precious")
    done = llmrl(command, "outputs", "--out", out)
    assert done.code == 2 and f"llmrl {command}: {out} cannot be written" in done.err and "Traceback" not in done.err
    assert (tmp_path / "a_file").read_text() == "precious"

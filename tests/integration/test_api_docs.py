"""What docs/api.md and the notebook show runs as it stands."""

import os
import re

import nbformat
import pytest
from conftest import ROOT
from nbclient import NotebookClient
from registering import forgotten  # noqa: F401 (a fixture)

NOTEBOOK = ROOT / "docs" / "notebooks" / "python_api.ipynb"


def test_the_blocks_of_the_page_run_one_after_the_other(tmp_path, monkeypatch, capsys, forgotten):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    names: dict = {"__name__": "docs_api"}
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs" / "api.md").read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 8
    for block in blocks:
        exec(compile(block, "docs/api.md", "exec"), names)
    assert "Did you mean `agent.gamma`?" in capsys.readouterr().out
    assert names["ends"][0].status == "INTERRUPTED" and names["result"].result["env_steps"] == 40
    assert [ended.status for ended in names["results"]] == ["DONE"] * 4
    assert len(names["frame"]) == 4 and names["frame"]["agent.gamma"].nunique() == 2
    assert names["curves"].notna().all(axis=None) and len(names["returns"]) == 3


@pytest.fixture
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def test_the_notebook_runs_offline_from_anywhere(notebook, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # whoever asks the network is refused
    kept = [len(cell.outputs) for cell in notebook.cells if cell.cell_type == "code"]
    where = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources=where).execute()  # raises where a cell fails
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [len(cell.outputs) for cell in cells] == kept
    assert not [out for cell in cells for out in cell.outputs if out.get("name") == "stderr"]
    assert (tmp_path / "outputs" / "classic").is_dir()


def test_the_notebook_is_kept_executed_and_small(notebook):
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [out for cell in cells for out in cell.outputs]
    assert any("image/png" in out.get("data", {}) for out in outputs)
    assert not [out for out in outputs if out.output_type == "error" or out.get("name") == "stderr"]
    assert NOTEBOOK.stat().st_size < 100_000

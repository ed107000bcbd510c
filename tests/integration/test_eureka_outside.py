"""A paper needs nothing of ours changed: a copy of Eureka under another name, in a directory of LLMRL_PATH, is checked,
runs, and has its table, figure and page."""

import os
import shutil
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT

SMALL = ["env.max_episode_steps=10", "agent.hidden=[8]", "agent.batch_size=4", "agent.learning_starts=8",
         "agent.random_steps=8", "budget.env_steps=20", "eval.every=10", "eval.episodes=1", "eval.max_steps=10",
         "log.progress=false"]  # fmt: skip
SEARCH = ["method.search_env_steps=20", "method.search_evaluations=1", "method.search.iterations=1",
          "method.search.k=3", "method.search.states=20"]  # fmt: skip
PARTS = ("conf/method/eureka.yaml", "conf/method/eureka", "conf/wrapper/eureka.yaml", "conf/experiment/eureka",
         "conf/table/eureka")  # fmt: skip


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The copy, called `copied`."""
    lab = tmp_path_factory.mktemp("lab")
    shutil.copytree(ROOT / "llmrl" / "methods" / "eureka", lab / "methods" / "copied",
                    ignore=shutil.ignore_patterns("__pycache__"))  # fmt: skip
    for part in PARTS:
        source, target = ROOT / part, lab / part.replace("eureka", "copied")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    for file in (file for file in lab.rglob("*") if file.is_file()):
        file.write_text(file.read_text().replace("eureka", "copied"))
    table = yaml.safe_load((lab / "conf/table/copied/mujoco.yaml").read_text())
    table |= {"base": SMALL, "rows": {"HalfCheetah": table["rows"]["HalfCheetah"]}, "seeds": [0]}
    table["columns"]["Eureka"] += SEARCH
    table["columns"]["Eureka, normalised"]["set"] += SEARCH
    (lab / "conf/table/copied/mujoco.yaml").write_text(yaml.safe_dump(table))
    return lab


def run(lab, cwd, *args):
    variables = os.environ | {"PYTHONPATH": str(ROOT), "LLMRL_PATH": str(lab), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "llmrl", *args], cwd=cwd, env=variables, text=True, capture_output=True
    )


def test_a_copy_outside_of_the_repository_is_whole(lab, tmp_path):
    done = run(lab, tmp_path, "check", "experiment=copied/half_cheetah")
    assert done.returncode == 0 and "would start" in done.stdout, done.stderr
    assert run(lab, tmp_path, "list", "method").stdout.count("copied") >= 2
    done = run(lab, tmp_path, "plan", "copied/mujoco", "--run")
    assert done.returncode == 0, done.stderr
    made = run(lab, tmp_path, "table", "copied/mujoco")
    assert made.returncode == 0 and "metres forward" in made.stdout, made.stderr
    plotted = run(lab, tmp_path, "plot", "outputs/copied", "--kind", "copied_correlation")
    assert plotted.returncode == 0, plotted.stderr
    page = run(lab, tmp_path, "report", "outputs/copied")
    assert page.returncode == 0, page.stderr
    assert "Eureka&#x27;s searches" in (tmp_path / "outputs" / "copied" / "report.html").read_text()

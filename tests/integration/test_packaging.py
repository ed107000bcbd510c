"""The wheel carries conf/ and the prompts, and works from any directory."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with an sdist, and the wheel that is built from it."""
    out = tmp_path_factory.mktemp("built")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    return next(built.glob("*.whl"))


def test_the_sdist_holds_the_published_numbers(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {"/".join(Path(name).parts[1:]) for name in archive.getnames()}
    assert {str(path.relative_to(ROOT)) for path in (ROOT / "llmrl").rglob("*.csv")} <= names


def test_wheel_holds_all_that_is_no_python(wheel: Path) -> None:
    """Presets, state sheets, prompt templates, published numbers, the page's style: as the tree has them."""
    names = zipfile.ZipFile(wheel).namelist()
    held = {name for name in names if not name.endswith(".py") and ".dist-info/" not in name}
    files = [path for folder in ("llmrl", "conf") for path in (ROOT / folder).rglob("*") if path.is_file()]
    files = [path.relative_to(ROOT) for path in files if path.suffix != ".py" and "__pycache__" not in path.parts]
    assert held == {str(path) if path.parts[0] == "llmrl" else f"llmrl/{path}" for path in files}
    lesr = {
        "llmrl/methods/lesr/prompts/first.txt",
        "llmrl/methods/lesr/published.csv",
        "llmrl/conf/env/mujoco/_sheets/ant.yaml",
    }
    assert lesr | {"llmrl/conf/experiment/lesr/hopper.yaml"} <= held


def test_installed_wheel_runs_from_another_directory(wheel: Path, tmp_path: Path) -> None:
    site, work = tmp_path / "site", tmp_path / "work"
    work.mkdir()
    install = ["-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(site), str(wheel)]
    subprocess.run([sys.executable, *install], check=True)
    env = os.environ | {"PYTHONPATH": str(site)}
    found = subprocess.run(
        [sys.executable, "-c", "import llmrl; print(llmrl.__file__)"], env=env, cwd=work, capture_output=True, text=True
    )
    assert Path(found.stdout.strip()).is_relative_to(site)
    run = ["experiment=classic/pendulum", "budget=smoke", "log.progress=false"]
    done = subprocess.run(
        [sys.executable, "-m", "llmrl", "run", *run], env=env, cwd=work, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "evaluation return" in done.stdout
    results = list((work / "outputs" / "classic" / "vanilla-td3" / "classic-pendulum").glob("s0-*/result.json"))
    assert len(results) == 1

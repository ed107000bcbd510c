"""CONTRIBUTING's examples are complete: written to a directory of LLMRL_PATH, its commands run them."""

import os
import re
import shlex
import subprocess
import sys

import pytest
from conftest import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^```\w+\n# ([\w./]+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL))  # path: text
COMMANDS = re.findall(r"^llmrl .+$", TEXT.partition("export LLMRL_PATH=/my/lab\n")[2], re.MULTILINE)
OUTPUT = {  # what a command prints
    "llmrl list method": "linear_bonus",
    "llmrl check experiment=linear_bonus/corridor": "scripted LLM: 1 calls",
    "llmrl run experiment=linear_bonus/corridor": "weights            1, 0; rejected answers: none",
    "llmrl table linear_bonus/corridor": "-5",
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The directory with the examples, beside one to run in."""
    lab = tmp_path_factory.mktemp("lab")
    for name, text in FILES.items():
        (lab / name).parent.mkdir(parents=True, exist_ok=True)
        (lab / name).write_text(text)
    return lab


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("work")


def test_every_kind_of_file_has_an_example():
    folders = {name.partition("/")[0] for name in FILES}
    assert folders == {"agents", "envs", "methods", "conf"} and len(FILES) == 14 and set(OUTPUT) <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page_works_on_its_examples(command, lab, work):
    """In their order: each builds on those before it."""
    variables = os.environ | {"PYTHONPATH": str(ROOT), "LLMRL_PATH": str(lab), "OMP_NUM_THREADS": "1"}
    argv = [sys.executable, "-m", *shlex.split(command)]
    done = subprocess.run(argv, cwd=work, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert OUTPUT.get(command, "") in done.stdout, done.stdout


@pytest.mark.parametrize("tool", [["ruff", "check"], ["ruff", "format", "--check"]])
def test_the_examples_are_written_as_the_package_is(tool, lab):
    files = [str(path) for path in sorted(lab.rglob("*.py"))]
    config = ["--config", str(ROOT / "pyproject.toml")]
    config += ["--config", "lint.isort.known-first-party = ['llmrl']"] if tool == ["ruff", "check"] else []
    done = subprocess.run([sys.executable, "-m", *tool, *config, *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr

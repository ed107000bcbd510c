"""CONTRIBUTING's examples are complete: written to a directory of LLMRL_PATH, its commands run them."""

import re
import shlex
import subprocess
import sys

import pytest
from conftest import ROOT, Process

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
    """The directory with the examples."""
    lab = tmp_path_factory.mktemp("lab")
    for name, text in FILES.items():
        (lab / name).parent.mkdir(parents=True, exist_ok=True)
        (lab / name).write_text(text)
    return lab


def test_every_kind_of_file_has_an_example():
    folders = {name.partition("/")[0] for name in FILES}
    assert folders == {"agents", "envs", "methods", "conf"} and len(FILES) == 14 and set(OUTPUT) <= set(COMMANDS)


def test_the_commands_of_the_page_work_on_its_examples(lab, tmp_path):
    """In their order: each builds on those before it."""
    for command in COMMANDS:
        _, word, *args = shlex.split(command)
        done = Process(args, tmp_path, {"LLMRL_PATH": str(lab)}, command=word).end()
        assert done.code == 0, command + done.out + done.err
        assert OUTPUT.get(command, "") in done.out, command + done.out


@pytest.mark.parametrize("tool", [["ruff", "check"], ["ruff", "format", "--check"]])
def test_the_examples_are_written_as_the_package_is(tool, lab):
    files = [str(path) for path in sorted(lab.rglob("*.py"))]
    config = ["--config", str(ROOT / "pyproject.toml")]
    config += ["--config", "lint.isort.known-first-party = ['llmrl']"] if tool == ["ruff", "check"] else []
    done = subprocess.run([sys.executable, "-m", *tool, *config, *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr

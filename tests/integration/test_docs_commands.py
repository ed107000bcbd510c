"""The commands of the pages that teach are run here, at budget=smoke, or the page says what they need."""

import os
import re
import shlex
import subprocess
import sys

import pytest
from conftest import ROOT
from test_contributing import COMMANDS, FILES

TUTORIALS = [f"tutorials/{name}.md" for name in ("environment", "agent", "method", "table")]
PAGES = ["start.md", "trust.md", "which_llm.md", *TUTORIALS]
ELSEWHERE = {
    "llmrl doctor": "tests/commands/test_cli.py",
    **dict.fromkeys(COMMANDS, "tests/integration/test_contributing.py"),
}
NO_COMMAND_OF_OURS = ("make ", "source ", "export ")  # what CI does, and the shell's own
ONE_AFTER_THE_OTHER = """
import shlex, sys
from hydra.core.global_hydra import GlobalHydra
from llmrl import cli
for line in sys.stdin:
    sys.argv = ["llmrl", *shlex.split(line)[1:]]
    GlobalHydra.instance().clear()
    print("$", line, end="", flush=True)
    try:
        code = cli.main(sys.argv[1:])
    except SystemExit as end:
        code = end.code
    if code:
        sys.exit(f"exit code {code}: {line}")
"""


def commands(page: str) -> list[str]:
    """Of its blocks without a language, but for those that are marked."""
    parts = (ROOT / "docs" / page).read_text(encoding="utf-8").split("\n\n")
    shown = [parts[i] for i in range(1, len(parts)) if parts[i].startswith("```\n") and not _marked(parts[i - 1])]
    lines = [line for part in shown for line in part.strip("`\n").splitlines()]
    return [shlex.join(shlex.split(line, comments=True)) for line in lines if not line.startswith(NO_COMMAND_OF_OURS)]


def _marked(before: str) -> bool:
    return re.search(r"\(needs [^)]*; not run by a test\)", " ".join(before.split())) is not None


def shortened(command: str) -> str:
    """A training at budget=smoke, without a display."""
    if not command.startswith("llmrl run "):
        return command
    kept = [word for word in shlex.split(command) if not word.startswith("budget=")]
    return shlex.join([*kept, "budget=smoke", "log.progress=false"])


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_work_one_after_the_other(page, tmp_path):
    asked = commands(page)
    assert asked and all(command.startswith("llmrl ") for command in asked)
    for name, text in FILES.items():  # the directory that the tutorials have their reader save
        (tmp_path / "lab" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "lab" / name).write_text(text)
    elsewhere = {shlex.join(shlex.split(command)): place for command, place in ELSEWHERE.items()}
    here = [shortened(command) for command in asked if command not in elsewhere]
    if not here:
        return
    variables = os.environ | {"PYTHONPATH": str(ROOT), "LLMRL_PATH": str(tmp_path / "lab"), "OMP_NUM_THREADS": "1"}
    argv, lines = [sys.executable, "-c", ONE_AFTER_THE_OTHER], "\n".join(here) + "\n"
    done = subprocess.run(argv, cwd=tmp_path, env=variables, input=lines, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_run_elsewhere_is():
    assert '"doctor"' in (ROOT / ELSEWHERE["llmrl doctor"]).read_text(encoding="utf-8")


def test_what_the_machine_lacks_is_marked():
    assert any("gpt-4o-mini" in line for line in (ROOT / "docs" / "start.md").read_text().splitlines())
    assert not any("gpt-4o-mini" in command for command in commands("start.md"))

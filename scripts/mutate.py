"""Would the tests notice a mistake? mutmut changes one thing at a time in some files, and the tests given are to fail.

    make mutate FILES="llmrl/methods/lesr/method.py" TESTS="tests/methods/lesr/test_lesr_selection.py" [ONLY='*choose*']

It works on a copy: nothing of the checkout is touched. Printed are the changes that no test noticed, or that no test
ran. Some are no mistakes (they change nothing that is computed); the others want a test that asserts a value.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
UNNOTICED = ("survived", "no tests")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", nargs="+", required=True, help="what is changed")
    parser.add_argument("--tests", nargs="+", required=True, help="what is to notice it: files, or file::test")
    parser.add_argument("--only", nargs="*", default=[], help="patterns of mutmut's names of mutants: '*Recorder*'")
    parser.add_argument("--jobs", type=int, default=1)
    own = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mutate-") as folder:
        tree = Path(folder)
        copied(tree)
        with (tree / "pyproject.toml").open("a", encoding="utf-8") as file:
            # what is imported from tests (rules, scripts) has to lie where the mutated tree is run from
            file.write(f'\n[tool.mutmut]\nsource_paths = ["llmrl"]\nonly_mutate = {own.files}\n'
                       f'also_copy = ["conf", "docs", "scripts"]\n'
                       f"pytest_add_cli_args_test_selection = {own.tests}\n")  # fmt: skip
        code = mutmut(tree, "run", "--max-children", str(own.jobs), *own.only).returncode
        told = [line.strip().split(": ") for line in mutmut(tree, "results", "--all", "true", read=True).splitlines()]
        verdicts = [(name, verdict) for name, verdict in told if verdict != "not checked"]
        if code and not verdicts:
            sys.exit(f"mutmut could not run the tests (exit code {code}): do they pass unchanged?")
        found = [(name, verdict, change(tree, name)) for name, verdict in verdicts if verdict in UNNOTICED]
    found = [(name, verdict, lines) for name, verdict, lines in found if not of_text(lines)]
    for name, verdict, lines in found:
        print(f"\n{name} ({verdict})", *lines, sep="\n")
    cut = " (mutmut ended before all were tried)" if code else ""
    print(f"\n{len(verdicts)} changes{cut}, {len(found)} unnoticed; those of a text alone are left out")


def copied(tree: Path) -> None:
    """What git knows, and what it would add."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    for name in listed.splitlines():
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)


def mutmut(tree: Path, *args: str, read: bool = False):
    variables = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "mutmut", *args], cwd=tree, env=variables, text=True,
        stdout=subprocess.PIPE if read else None,
    )  # fmt: skip
    return done.stdout if read else done


def change(tree: Path, name: str) -> list[str]:
    """The lines that a mutant takes away and puts in."""
    shown = mutmut(tree, "show", name, read=True).splitlines()
    return [line for line in shown if line[:1] in "+-" and line[:3] not in ("+++", "---")]


def of_text(lines: list[str]) -> bool:
    """Whether a mutant changes only what a text says."""
    before, after = ("\n".join(line[1:] for line in lines if line[0] == sign) for sign in "-+")
    return "XX" in after or before.lower() == after.lower()


if __name__ == "__main__":
    main()

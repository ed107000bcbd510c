"""llmrl list [group]

Shows what there is to choose from: methods, agents, environments, language models, experiments, budgets …
With a group (method, agent, env, wrapper, llm, experiment, budget, eval, log, compute) only that one, environments one
by one.
"""

import importlib.util
import re
import sys
import textwrap
from pathlib import Path

from llmrl.commands.columns import columns
from llmrl.conf_files import GROUPS, extra_roots, group_file, options

# (module, what the suite needs it for, what to install); a suite that is not here needs only what llmrl needs
NEEDS = {
    "atari": [("ale_py", "needs ale-py", "ale-py"), ("cv2", "needs OpenCV", "opencv-python-headless")],
    "classic": [("pygame", "needs pygame for videos", "pygame")],
    "mujoco": [(module, f"needs {module}", "gymnasium[mujoco]") for module in ("mujoco", "imageio")],
}


def main(args: list[str]) -> int:
    if len(args) > 1 or (args and args[0] not in GROUPS):
        from difflib import get_close_matches

        near = get_close_matches(args[0], GROUPS, n=1, cutoff=0.5)
        hint = f"Did you mean `{near[0]}`?" if near else f"There are: {', '.join(GROUPS)}."
        print(f"llmrl list: there is no group `{' '.join(args)}`. {hint}", file=sys.stderr)
        return 2
    print("\n\n".join(_group(group, alone=bool(args)) for group in args or GROUPS))
    return 0


def _group(group: str, *, alone: bool) -> str:
    names = options(group)
    if group == "env":
        lines = "\n".join(_suite(suite, names, alone) for suite in sorted({n.partition("/")[0] for n in names}))
    elif group == "agent":
        lines = columns([(name, actions_of(name), first_comment(group, name)) for name in names])
    else:
        lines = columns([(name, first_comment(group, name)) for name in names])
    return f"{group}=…  {GROUPS[group]}\n{lines}"


def _suite(suite: str, names: list[str], alone: bool) -> str:
    tasks = [name for name in names if name.partition("/")[0] == suite]
    needs = "".join(f"\n  ! {need}" for need in missing(suite))
    if alone:
        return columns([(name, task_name(name)) for name in tasks]) + needs
    start = f"  {suite}/  "
    listed = ", ".join(name.partition("/")[2] for name in tasks)
    return textwrap.fill(listed, 118, initial_indent=start, subsequent_indent=" " * len(start)) + needs


def first_comment(group: str, name: str) -> str:
    """The first comment line of a choice's yaml says what it is."""
    file = group_file(group, name)
    lines = [line.strip() for line in file.read_text().splitlines()] if file else []
    return next((line.lstrip("# ") for line in lines if line.startswith("#") and "@package" not in line), "")


def task_name(name: str) -> str:
    """What the environment's yaml calls the task, and whether it has more text for an LLM."""
    file = group_file("env", name)
    text = file.read_text() if file else ""
    found = re.search(r"^  name: *\"?([^\"\n]+)", text, re.MULTILINE)
    missing = "" if re.search(r"^  description:", text, re.MULTILINE) else "  (no text for an LLM beyond this name)"
    return f"{found[1]}{missing}" if found else ""


def actions_of(agent: str) -> str:
    """discrete or continuous, as the agent's class or the one that it builds on says. Read, not imported: no torch."""
    text = _source("agents", agent)
    if found := re.search(r"^    actions\b.*= \"(\w+)\"", text, re.MULTILINE):
        return found[1]
    if base := re.search(r"^class \w+\((\w+)\.\w+\)", text.replace("class Config", ""), re.MULTILINE):
        return actions_of(base[1])
    return ""


def missing(suite: str) -> list[str]:
    """What the suite needs and Python does not find: 'needs mujoco: pip install …'."""
    gone = [(what, package) for module, what, package in NEEDS.get(suite, ()) if not _installed(module)]
    return [f"{what}: pip install '{package}'" for what, package in gone]


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _source(folder: str, name: str) -> str:
    """The text of llmrl/<folder>/<name>.py, or of such a module below LLMRL_PATH; empty where there is none."""
    roots = [Path(__file__).resolve().parents[1], *extra_roots()]
    files = [root / folder / f"{name}.py" for root in roots]
    return next((file.read_text() for file in files if file.exists()), "")

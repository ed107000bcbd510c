"""The rules of the house that a machine can check: who imports what, how long a file is, what every yaml says."""

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from conftest import ROOT, compose

from llmrl.agents.configs import CONFIGS
from llmrl.conf_files import options
from llmrl.config import Config, from_node, method_of, module_of

PACKAGE = ROOT / "llmrl"
FILES = sorted(PACKAGE.rglob("*.py"))
YAML = sorted((ROOT / "conf").rglob("*.yaml"))
MAX_FILE, MAX_FUNCTION = 400, 60  # lines

# A part of the package may import these other parts. No arrow points back: agents know no environment and no logger,
# report/ no training and no paper. (A method derives the configuration of what it builds on.)
LEAVES = {"checks", "conf_files", "global_generator", "intervals", "registered", "streams", "waiting"}
ALLOWED = {
    "contracts": {"checks"},
    "explore": {"contracts", "checks"},
    "replay": {"contracts", "checks", "explore"},
    "agents": {"contracts", "checks", "explore", "global_generator", "replay"},
    "envs": {"contracts", "checks"},
    "llm": {"checks", "runs"},
    "papers": {"contracts", "checks", "methods"},  # of methods the folders alone
    "methods": {"contracts", "config", "envs", "explore", "llm", "loops", "replay", "runs", *LEAVES},
    "methods/report": {"contracts", "llm", "report", "runs", *LEAVES},  # of a paper: no method, since these know torch
    "loops": {"contracts", "checks", "agents", "explore", "replay", "runs", "streams"},
    "runs": {"contracts", "explore", "papers", "replay", *LEAVES},
    "runs/artifacts": {"checks", "config"},
    "runs/kept_wrapper": {"config"},
    "runs/lifecycle": {"build", "checks", "config", "context", "contracts", "llm", "objective", "report"},
    "runs/stacked": {"build", "checks", "config", "context", "loops"},  # the runs of a stack meet in their updates
    "runs/wandb_mirror": {"llm"},  # it counts the calls
    "objective": {"checks", "report"},
    "tuning": {"checks", "conf_files", "config", "hydra_compose", "objective", "runs"},
    "clusters": {"checks", "conf_files", "config", "hydra_compose", "llm", "runs"},
    "clusters/task": set(),  # it runs where nothing else is imported yet
    "report": {"config", "contracts", "llm", "papers", "runs", *LEAVES},
    "config": {"contracts", "agents", "envs", "hydra_session", "llm", "methods", *LEAVES},
    "probes": {"build", "config", "contracts", "llm", "methods", "runs", *LEAVES},  # of methods the papers' probe.py
    "build": {"contracts", "config", "envs", "limits", "runs", *LEAVES},
    "evaluation": {"build", "contracts", "config", "envs", "loops", "runs"},
    "context": {"build", "checks", "contracts", "config", "evaluation", "llm", "loops", "runs"},
}
ONLY_THERE = {
    "optuna": {"tuning"},
    "ray": {"clusters/ray"},
    "hydra": {
        "sweep",
        "tuning",
        "run",
        "cli",
        "commands",
        "config",
        "api",
        "hydra_errors",
        "hydra_search",
        "hydra_session",
    },
    "omegaconf": {"run", "cli", "commands", "config", "hydra_compose", "hydra_errors", "hydra_session"},
    "wandb": {"runs/wandb_mirror"},
    "litellm": {"llm/client"},
}
HEAVY = {"torch", "litellm", "wandb", "mujoco", "ale_py", "matplotlib"}


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def imports(path: Path, *, top_level: bool = False) -> set[str]:
    """The modules that a file imports, anywhere or at its top alone; not what is only for type checkers."""
    names = imported_names(path, top_level=top_level)
    return names | {name.rpartition(".")[0] for name in names}


@cache
def imported_names(path: Path, *, top_level: bool = False) -> set[str]:
    """llmrl.runs.stop.Stop, of `from llmrl.runs.stop import Stop`"""
    tree = tree_of(path)
    hidden = {id(n) for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
              for n in ast.walk(node)}  # fmt: skip
    nodes = tree.body if top_level else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{name.name}" for name in node.names}
    return found


def part(path: Path) -> str:
    """llmrl/runs/log.py -> runs; llmrl/run.py -> run"""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def is_paper_report(path: Path) -> bool:
    """methods/<paper>/report.py"""
    return part(path) == "methods" and path.name == "report.py"


def named(path: Path) -> str:
    return str(path.relative_to(PACKAGE).with_suffix(""))


@pytest.mark.parametrize("path", FILES, ids=named)
def test_imports_point_one_way(path):
    ours = {name.split(".")[1] for name in imports(path) if name.startswith("llmrl.")}
    parts = {p for p in ours if (PACKAGE / p).is_dir() or (PACKAGE / f"{p}.py").exists()}
    room = "methods/report" if is_paper_report(path) else named(path) if named(path) in ALLOWED else part(path)
    if room in ALLOWED:
        assert parts - {part(path)} <= ALLOWED[room]


def test_no_module_imports_itself_by_way_of_others():
    """Not within functions either; what is only for type checkers does not count."""
    modules = {f"llmrl.{named(path)}".replace("/", ".").removesuffix(".__init__"): path for path in FILES}
    left = {
        module: {name if name in modules else name.rpartition(".")[0] for name in imported_names(path)} - {module}
        for module, path in modules.items()
    }
    while ends := {name for name, imported in left.items() if not imported & left.keys()}:
        left = {name: imported for name, imported in left.items() if name not in ends}
    assert sorted(left) == []  # each of these is in a cycle, or leads to one


@pytest.mark.parametrize("package", ONLY_THERE)
def test_who_may_import(package):
    importers = {named(path) for path in FILES if any(name.split(".")[0] == package for name in imports(path))}
    assert {name for name in importers if not {name, name.split("/")[0]} & ONLY_THERE[package]} == set()


def test_report_knows_no_torch():
    for path in FILES:
        if part(path) == "report" or is_paper_report(path):
            assert "torch" not in {name.split(".")[0] for name in imports(path)}, path


def test_the_papers_reports_load_no_torch_and_no_matplotlib():
    code = "import sys, llmrl.report.page.write, llmrl.papers as p; print(*p.reports().found, file=sys.stderr); "
    code += "sys.exit(bool({'torch', 'matplotlib'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "lesr" in done.stderr, done.stderr


def test_what_is_only_planned_loads_no_torch():
    """Whatever the agent: importing it takes two seconds."""
    code = """
import sys
from llmrl.commands.cells import identify
from llmrl.conf_files import options
for agent in options("agent"):
    identify([f"agent={agent}"], [0])
identify(["experiment=lesr/hopper", "+agent@method.search_agent=ppo"], [0])
identify(["experiment=kalm/clevr"], [0])
sys.exit("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_each_agent_has_the_keys_that_are_checked():
    assert {name: module_of("agent", name).Config for name in options("agent")} == CONFIGS


def test_heavy_packages_are_imported_where_they_are_used():
    # torch is what these are made of; they are themselves imported late
    may = {"agents", "loops", "build", "context", "global_generator", "limits"}
    # by the packages that they are in
    late = {f"methods/kalm/model/{name}.py" for name in ("llama", "network", "tasks", "training")}
    late |= {"methods/kalm/rollouts/imagine.py", "contracts/agent.py"}
    for path in FILES:
        heavy = {name.split(".")[0] for name in imports(path, top_level=True)} & HEAVY
        assert not heavy or (heavy == {"torch"} and (part(path) in may or str(path.relative_to(PACKAGE)) in late)), path


def test_nothing_draws_from_a_global_generator():
    bad = re.compile(r"np\.random\.(?!Generator|PCG64|SeedSequence|default_rng)\w+|torch\.manual_seed|^import random|"
                     r"random\.seed\(", re.MULTILINE)  # fmt: skip
    for path in FILES:
        assert bad.findall(path.read_text()) == [], path


@pytest.mark.parametrize("path", FILES, ids=named)
def test_files_and_functions_stay_short(path):
    assert len(path.read_text().splitlines()) <= MAX_FILE
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno + 1 <= MAX_FUNCTION, node.name


@pytest.mark.parametrize("path", FILES, ids=named)
def test_every_module_says_what_it_is_for(path):
    assert ast.get_docstring(tree_of(path))


@pytest.mark.parametrize("preset", options("experiment"))
def test_every_preset_composes(preset):
    assert isinstance(from_node(compose([f"experiment={preset}"])), Config)


@pytest.mark.parametrize("env", options("env"))
def test_every_environment_composes(env):
    agent = "td3" if env.startswith("mujoco") else "dqn"
    assert isinstance(from_node(compose([f"env={env}", f"agent={agent}"])), Config)


@pytest.mark.parametrize("group, name", [(group, name) for group in ("method", "agent", "llm", "budget", "compute",
                         "eval", "log", "wrapper") for name in options(group)])  # fmt: skip
def test_every_choice_composes(group, name):
    needed = ["llm.model=some/model"] if name in ("openai_compatible", "ollama", "vllm") else []
    needed += ["llm.api_base=http://localhost/v1"] if name == "openai_compatible" else []
    if group == "method" and (suites := method_of(name).suites):
        needed.append(next(f"env={env}" for env in options("env") if env.startswith(suites[0])))
    assert isinstance(from_node(compose([f"{group}={name}", *needed])), Config)


@pytest.mark.parametrize("path", YAML, ids=lambda path: str(path.relative_to(ROOT / "conf")))
def test_every_key_is_explained(path):
    """By a comment behind it, or above it or the block that it stands in. A preset, a task and whoever names his base
    set keys that are explained where they come from; then the file itself says what it is."""
    text = path.read_text()
    lines = text.splitlines()
    inherits = "defaults:" in text
    if inherits:
        assert any(line.startswith("#") for line in lines) or path.parts[-3] == "env"
        return
    for number, line in enumerate(lines):
        if re.match(r"\s*[\w]+:", line):
            above = number > 0 and lines[number - 1].strip().startswith("#")
            assert "#" in line or above, f"{path}:{number + 1}: {line}"

"""What README, CONTRIBUTING and docs/ name exists: links, paths, modules, commands, choices and keys."""

import importlib.util
import re
import shlex
from functools import cache
from pathlib import Path

import gymnasium
import pytest
import yaml
from conftest import ROOT
from hydra.core.override_parser.overrides_parser import OverridesParser

from llmrl.checks import ConfigError
from llmrl.commands import COMMANDS
from llmrl.conf_files import GROUPS, options
from llmrl.config import from_node
from llmrl.hydra_compose import compose

PAGES = [path for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md") if path.exists()]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
OPEN = re.compile(r"<[^>]*>|…|\.\.\.")  # what a reader has to fill in
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:^    .+\n)+", re.MULTILINE)
PATH = re.compile(r"(?<![\w./-])(?:llmrl|conf|docs|tests|scripts)/[\w./*<>-]+")
FILE = re.compile(r"[\w<>*/-]+/[\w<>*-]+\.(?:py|yaml|csv|txt|md)")  # within `…`, below the package too
MODULE = re.compile(r"(?<![\w./-])llmrl(?:\.[A-Za-z_]\w*)+")
CHOICE = re.compile(rf"(?<![\w.])({'|'.join(GROUPS)})=([a-z0-9_][\w./-]*)")
KEY = re.compile(rf"(?:{'|'.join(GROUPS)})(?:\.\w+)*\.(\w+)(?:=.*)?")
OF_A_USER = {"agent=mine", "method=mine"}  # choices that a reader makes
ENDINGS = ("json", "jsonl", "pt", "py")
PLACES = ("/my/lab", "outputs/", "http")  # not in the repository


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path) -> list[str]:
    """Fenced and indented blocks of commands, but for those that tests/integration/test_contributing.py runs."""
    fenced = [body for language, body in BLOCK.findall(text(page)) if language in ("", "bash", "sh")]
    fenced = [body for body in fenced if "LLMRL_PATH=/my/lab" not in body]
    return fenced + INDENTED.findall(BLOCK.sub("", text(page)))


def inline(page: Path) -> list[str]:
    """What stands between backticks: single ones, or double ones where it holds single ones."""
    spans = re.findall(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", BLOCK.sub("", text(page)), re.DOTALL)
    return [" ".join(code.split()) for _, code in spans]


def commands(page: Path) -> list[tuple[list[str], str]]:
    """Every `llmrl …` of a page that leaves nothing to fill in, split as a shell does, and the line below it."""
    lines = [line.strip() for block in blocks(page) for line in block.replace("\\\n", " ").splitlines()]
    lines += [code for code in inline(page) if code.startswith("llmrl ")]
    found = []
    for line, below in zip(lines, [*lines[1:], ""]):
        line = line.removeprefix("$ ")
        if not line.startswith("llmrl ") or OPEN.search(line):
            continue
        for command in line.split(" && "):
            tokens = shlex.split(command, comments=True)
            found.append((tokens[: tokens.index("|")] if "|" in tokens else tokens, below))
    return [(tokens, below) for tokens, below in found if len(tokens) > 1]


def jobs(overrides: list[str]) -> list[list[str]]:
    """The overrides of a sweep's first and last run."""
    each = [
        [f"{one.key_or_group}={value}" for value in one.sweep_string_iterator()] if one.is_sweep_override() else [given]
        for given, one in zip(overrides, OverridesParser.create().parse_overrides(overrides))
    ]
    return [[values[end] for values in each] for end in (0, -1)]


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    heads = re.findall(r"^#+ (.+)$", BLOCK.sub("", text(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@cache
def keys() -> set[str]:
    """All keys of all yaml files below conf/."""

    def of(node: object) -> set[str]:
        if isinstance(node, dict):
            return {str(key) for key in node} | {key for value in node.values() for key in of(value)}
        return {key for value in node for key in of(value)} if isinstance(node, list) else set()

    return {key for file in (ROOT / "conf").rglob("*.yaml") for key in of(yaml.safe_load(file.read_text()))}


def exists(path: str) -> bool:
    """In the repository, the package or a paper's folder. `<paper>` and `*` stand for any name; an ending may be left
    out."""
    pattern = re.sub(r"<[^>]*>", "*", path.rstrip("/."))
    places = (f"{folder}{pattern}{ending}" for folder in ("", "llmrl/", "llmrl/methods/*/") for ending in ("", ".*"))
    return any(next(ROOT.glob(place), None) for place in places)


def importable(name: str) -> bool:
    """A module, or something in one."""
    module, _, attribute = name.rpartition(".")
    try:
        if importlib.util.find_spec(name):
            return True
    except ModuleNotFoundError:
        pass
    return bool(module) and hasattr(importlib.import_module(module), attribute)


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", BLOCK.sub("", text(page))):
        if target.startswith("http"):
            continue
        file, _, anchor = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=named)
def test_no_line_is_there_twice(page):
    """As after a merge that kept an old wording beside its new one."""
    prose = INDENTED.sub("", BLOCK.sub("", text(page)))
    starts = [line[:60] for line in prose.splitlines() if len(line) > 60 and not line.startswith("|")]
    assert [start for start in starts if starts.count(start) > 1] == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_paths_and_modules_exist(page):
    # the files that the page itself brings
    shown = text(page) + (text(ROOT / "CONTRIBUTING.md") if "<!-- include CONTRIBUTING.md#" in text(page) else "")
    own = set(re.findall(r"^# ([\w./-]+)$", "\n".join(body for _, body in BLOCK.findall(shown)), re.MULTILINE))
    paths = {path.rstrip(".") for path in PATH.findall(text(page))}
    paths |= {path for code in inline(page) if not code.startswith(PLACES) for path in FILE.findall(code)}
    gone = {path for path in paths - own if not exists(path) and path not in gymnasium.registry}
    assert sorted(gone) == []
    modules = [name for name in MODULE.findall(text(page)) if not importable(name)]
    assert [name for name in modules if not any(path.startswith(name[6:].replace(".", "/")) for path in own)] == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_choices_and_keys_exist(page):
    for code in inline(page):
        for group, choice in CHOICE.findall(OPEN.sub("", code)):
            assert choice in options(group) or f"{group}={choice}" in OF_A_USER or choice.endswith("/"), code
        for word in code.split():
            if found := KEY.fullmatch(word):
                assert found[1] in keys() or found[1] in ENDINGS, code


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_compose(page):
    for (_, command, *rest), below in commands(page):
        assert command in (*COMMANDS, "--help", "--version"), command
        if command in ("plan", "table", "plot"):
            for name in rest[:1]:
                assert name.startswith(("-", "outputs")) or (ROOT / "conf/table" / f"{name}.yaml").exists(), name
        if command not in ("run", "check") or "--from" in rest or "--help" in rest:
            continue
        overrides = [one for one in rest if one != "-m"]
        for job in jobs(overrides) if "-m" in rest else [overrides]:
            try:
                node = compose(job)
                node.pop("rerun")
                from_node(node, job)
            except ConfigError as error:
                assert str(error) == below  # it shows what is said of a mistake


def test_the_commands_for_clusters_are_run_by_a_test_or_say_what_they_need():
    parts = text(ROOT / "docs" / "clusters.md").split("\n\n")
    shown = [i for i, part in enumerate(parts) if part.startswith("    ")]
    assert len(shown) >= 3
    for i in shown:
        around = parts[i - 1] + parts[i + 1]
        assert "(Run by `tests/" in around or "not run by a test" in around, parts[i]


def test_the_citation_has_the_papers_of_the_docs():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["references"]
    pages = [" ".join(text(page).split()) for page in sorted((ROOT / "docs" / "papers").glob("*.md"))]
    ids = [re.search(r"arxiv\.org/abs/([\d.]+)", page)[1] for page in pages]
    assert sorted(one["identifiers"][0]["value"].removeprefix("arXiv:") for one in cited) == sorted(ids)
    for one in cited:
        page = pages[ids.index(one["url"].rpartition("/")[2])]
        names = [author["family-names"] for author in one["authors"] if "family-names" in author]
        assert one["title"] in page and ", ".join(names) in page


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_make_targets_exist(page):
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    asked = [line.strip().removeprefix("$ ") for block in blocks(page) for line in block.splitlines()]
    asked += inline(page)
    for line in asked:
        if line.startswith("make "):
            assert line.split()[1] in targets, line

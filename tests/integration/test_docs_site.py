"""The documentation site (`make docs`): its pages are whole, and what they say is so."""

import ast
import importlib
import re
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
from conftest import ROOT

SITE = ROOT / "docs"
FIGURES = sorted((SITE / "papers" / "figures").glob("*.svg"))
PAPERS = sorted((SITE / "papers").glob("*.md"))
EVERY = {"index.md", "contributing.md", "changelog.md"} | {str(page.relative_to(SITE)) for page in SITE.rglob("*.md")}


def script(name: str):
    """A module of scripts/, whose folder is looked in as `python scripts/<name>.py` does."""
    folder = str(ROOT / "scripts")
    sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(folder)


@pytest.fixture(scope="module")
def site():
    return script("docs_site")


@pytest.fixture(scope="module")
def reference():
    return script("config_reference")


def pages_of(nav: object) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    parts = nav.values() if isinstance(nav, dict) else nav
    return [page for part in parts for page in pages_of(part)]


def test_every_page_is_in_the_navigation_once(reference):
    nav = pages_of(tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"])
    generated = {f"configuration/{group.replace('/', '_')}.md" for group in reference.PAGES}
    assert sorted(nav) == sorted(EVERY | generated)


def test_pages_are_brought_together_with_their_links_and_sections(site, tmp_path, monkeypatch):
    monkeypatch.setattr(site, "STAGED", tmp_path / "docs")
    site.stage()
    staged = {str(page.relative_to(site.STAGED)): page.read_text() for page in site.STAGED.rglob("*.md")}
    assert set(staged) >= EVERY
    tutorial = staged["tutorials/table.md"]
    assert "seeds: [0, 1, 2]" in tutorial and "<!-- include" not in tutorial
    assert "(../tables.md)" in tutorial  # CONTRIBUTING.md links to docs/tables.md
    assert "(concepts.md#a-run)" in staged["index.md"] and "(contributing.md)" in staged["concepts.md"]
    for name, text in staged.items():
        for target in re.findall(r"\]\(([^)\s#]+)", site.FENCED.sub("", text)):
            assert "://" in target or (site.STAGED / name).parent.joinpath(target).exists(), (name, target)


def test_what_cannot_be_included_or_linked_is_named(site, tmp_path, monkeypatch):
    text = "# A\n\n## B\nb\n```\n# no heading\n```\n### C\nc\n## D\nd\n"
    assert site.section(text, "b") == "b\n```\n# no heading\n```\n### C\nc\n"
    with pytest.raises(LookupError, match="no heading #e"):
        site.section(text, "e")
    with pytest.raises(LookupError, match="README.md: a link to docs/gone.md"):
        site.linked("[x](docs/gone.md)", ROOT / "README.md", Path("index.md"))


def test_what_belongs_to_a_list_is_indented_further(site):
    text = "- a\n  b\n\n      code\n\n  | t |\n- c\n\nd\n  e\n```\n- f\n  g\n```\n"
    moved = "- a\n    b\n\n        code\n\n    | t |\n- c\n\nd\n  e\n```\n- f\n  g\n```\n"
    assert site.indented(text) == moved


def test_a_page_that_fetches_from_another_host_is_found(site, tmp_path, monkeypatch):
    monkeypatch.setattr(site, "SITE", tmp_path)
    (tmp_path / "a.html").write_text('<a href="https://arxiv.org/x">ok</a><script src="app.js"></script>')
    assert site.fetches() == []
    (tmp_path / "b.html").write_text('<link rel="stylesheet" href="https://fonts.example/x"><img src=//host/y.png>')
    assert len(site.fetches()) == 2


def test_every_key_of_the_configuration_reference_is_explained(reference):
    groups = [group for group in reference.PAGES if group not in reference.LISTED]
    files = [file for group in groups for file in reference.files(ROOT / "conf", group)]
    bare = [(str(file), key.name) for file in files for key in reference.explained(file) if not key.comment]
    assert bare == []


def test_the_reference_has_every_group_choice_and_key(reference):
    folders = {path.parent.relative_to(ROOT / "conf").as_posix() for path in (ROOT / "conf").rglob("*.yaml")}
    assert {f for f in folders if not any(f == g or f.startswith(f"{g}/") for g in reference.PAGES)} == {"."}
    page = reference.page(ROOT / "conf", "agent")
    assert "## td3\n" in page and "| `tau` | `0.005` | how far the targets follow at every policy update |" in page
    continued = reference.page(ROOT / "conf", "method")
    assert "\\| controls: uniform (nobody asked)" in continued and "the LLM's numbers for other actions" in continued
    taken_over = reference.page(ROOT / "conf", "env")
    assert "| `robot` | `Hopper` | gymnasium's name of the environment, without version |" in taken_over


def test_comments_are_read_as_people_read_them(reference):
    text = (
        "# File.\na: 1   # one |\n       # two\n# Above.\nb: [x, 'y # z']\nc:  # deep\n  d: >-\n    long\n  e: 2  # e\n"
    )
    found = {key.name: (key.value, key.comment) for key in reference.keys(text)}
    assert found["a"] == ("1", "one | two") and found["b"] == ("[x, 'y # z']", "Above.")
    assert found["c"] == ("", "deep") and found["c.d"] == (">- long", "") and found["c.e"] == ("2", "e")


def test_figures_are_what_their_script_draws():
    drawn = script("paper_figures")
    assert {figure.stem for figure in FIGURES} == set(drawn.FIGURES) == {page.stem for page in PAPERS}
    for figure in FIGURES:
        assert figure.read_text(encoding="utf-8") == drawn.draw(figure.stem)


@pytest.mark.parametrize("page", PAPERS, ids=lambda page: page.stem)
def test_a_papers_page_has_its_parts_and_the_numbers_of_the_results(page, site):
    text = page.read_text(encoding="utf-8")
    assert f"](figures/{page.stem}.svg)" in text and "\nllmrl run experiment=" in text or "\nllmrl run method=" in text
    assert re.search(r"^## (What differs|Where (our|the)|The doubtful|Choices)", text, re.MULTILINE)
    assert len(site.section(text, "confounds").split("\n- ")) > 3
    results = " ".join((SITE / "results.md").read_text(encoding="utf-8").split())
    numbers = re.findall(r"\[-?[\d.,]+, -?[\d.,]+\]|[+-][\d.]+ ± [\d.]+", site.section(text, "what-we-reproduced"))
    assert [number for number in numbers if number not in results] == []


@cache
def messages() -> str:
    """All texts in llmrl's source, a line each, with … for what is filled in."""
    texts = []
    for file in (ROOT / "llmrl").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                texts.append("".join(v.value if isinstance(v, ast.Constant) else "…" for v in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return "\n".join(re.sub("…+", "…", " ".join(text.split())) for text in texts)


def test_every_message_of_the_troubleshooting_page_is_one_of_ours():
    page = (SITE / "troubleshooting.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| (`+) ?(.+?) ?\1 \| ", page, re.MULTILINE)
    assert len(listed) > 40
    assert [message for _, message in listed if message not in messages()] == []

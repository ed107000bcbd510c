"""The documentation site, built into build/site (`make docs`): a broken link or reference fails.

Zensical builds it from build/docs, where README.md (the front page), CONTRIBUTING.md, CHANGELOG.md, docs/ and the
configuration reference are brought together. A page includes a section of another file with
`<!-- include CONTRIBUTING.md#an-environment -->`; links follow the files that they name.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import config_reference

ROOT = Path(__file__).resolve().parents[1]
STAGED, SITE = ROOT / "build" / "docs", ROOT / "build" / "site"
RENAMED = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
INCLUDE = re.compile(r"^<!-- include ([\w./-]+)#([\w-]+) -->$", re.MULTILINE)
FENCED = re.compile(r"^( *)(```+).*?^\1\2\s*$\n?", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(\]\()([^)\s#]+)")
HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)
FETCHED = re.compile(r"<(?:script|img|link|iframe|source)\b[^>]*\b(?:src|href)=\"?(?:https?:)?//[^\">]+")


def outside_code(text: str, change) -> str:
    """The text with `change` made of what stands between its fenced blocks."""
    parts, at = [], 0
    for fence in FENCED.finditer(text):
        parts += [change(text[at : fence.start()]), fence[0]]
        at = fence.end()
    return "".join([*parts, change(text[at:])])


def anchor(heading: str) -> str:
    """As GitHub makes it of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def section(text: str, name: str) -> str:
    """What stands below the heading with this anchor, up to the next one of its level. Raises LookupError."""
    bare = FENCED.sub(lambda fence: re.sub(r"[^\n]", " ", fence[0]), text)  # of the same length
    heads = list(HEADING.finditer(bare))
    for i, head in enumerate(heads):
        if anchor(head[2]) == name:
            end = next((h.start() for h in heads[i + 1 :] if len(h[1]) <= len(head[1])), len(text))
            return text[head.end() : end].strip() + "\n"
    raise LookupError(f"there is no heading #{name}")


def indented(text: str) -> str:
    """What belongs to an item of a list, indented by four spaces as Python-Markdown wants it; GitHub takes two."""
    lines, fenced, item = [], False, False
    for line in text.splitlines():
        if not line.startswith(" ") and line.strip():
            fenced ^= line.startswith("```")
            item = not fenced and re.match(r"- |\d+\. ", line) is not None
        lines.append(f"  {line}" if item and line.startswith("  ") else line)
    return "\n".join(lines) + "\n"


def staged(source: Path) -> Path:
    """Where a file of the repository is staged, from build/docs."""
    inside = source.relative_to(ROOT)
    if inside.parts[0] == "docs":
        return Path(*inside.parts[1:])
    return Path(RENAMED.get(inside.as_posix(), inside))


def linked(text: str, source: Path, page: Path) -> str:
    """A text of the file `source` as part of the staged page `page`: its links lead from there."""

    def moved(link: re.Match[str]) -> str:
        if re.match(r"[a-z]+:", link[2]):
            return link[0]
        there = (source.parent / link[2]).resolve()
        if not there.exists():
            raise LookupError(f"{source.relative_to(ROOT)}: a link to {link[2]}, which does not exist")
        if there.is_file() and there.suffix != ".md" and ROOT / "docs" not in there.parents:
            shutil.copy(there, STAGED / there.name)
        return link[1] + os.path.relpath(staged(there), page.parent)

    return outside_code(text, lambda part: LINK.sub(moved, part))


def rendered(source: Path) -> str:
    """A page with its sections included and its links led to the staged files."""
    page = staged(source)

    def included(found: re.Match[str]) -> str:
        file = ROOT / found[1]
        try:
            return linked(section(file.read_text(encoding="utf-8"), found[2]), file, page)
        except LookupError as error:
            raise LookupError(f"{source.relative_to(ROOT)}: include {found[1]}: {error}") from None

    return indented(INCLUDE.sub(included, linked(source.read_text(encoding="utf-8"), source, page)))


def stage() -> None:
    """Fills build/docs."""
    shutil.rmtree(STAGED, ignore_errors=True)
    shutil.copytree(ROOT / "docs", STAGED, ignore=shutil.ignore_patterns("outputs", ".ipynb_checkpoints"))
    for source in [*(ROOT / name for name in RENAMED), *sorted((ROOT / "docs").rglob("*.md"))]:
        (STAGED / staged(source)).write_text(rendered(source), encoding="utf-8")
    for group in config_reference.PAGES:
        file = STAGED / "configuration" / f"{group.replace('/', '_')}.md"
        file.parent.mkdir(exist_ok=True)
        file.write_text(config_reference.page(ROOT / "conf", group), encoding="utf-8")


def fetches() -> list[str]:
    """What the built pages would load from other hosts."""
    pages = sorted(SITE.rglob("*.html"))
    return [f"{page.relative_to(SITE)}: {tag}" for page in pages for tag in FETCHED.findall(page.read_text("utf-8"))]


def main() -> int:
    try:
        stage()
    except LookupError as error:
        print(error, file=sys.stderr)
        return 1
    zensical = Path(sys.executable).with_name("zensical")
    if code := subprocess.run([zensical, "build", "--strict", "--clean"], cwd=ROOT).returncode:
        return code
    if foreign := fetches():
        print("Pages fetch from other hosts:", *foreign, sep="\n", file=sys.stderr)
        return 1
    built = SITE.relative_to(ROOT)
    print(f"The site is in {built}/. With its search: python -m http.server -d {built}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

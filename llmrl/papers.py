"""The papers' reports: what each folder of llmrl/methods, here or below LLMRL_PATH, exports as REPORT. No list names
them; one that cannot be used is a problem to show, and takes no other one down."""

import importlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, TypeVar

import llmrl.methods
from llmrl.checks import ConfigError, raised
from llmrl.contracts.report import PaperReport

T = TypeVar("T")


class Reports(NamedTuple):
    """The reports by paper, and why others cannot be used."""

    found: dict[str, PaperReport]
    problems: list[str]


def reports() -> Reports:
    """All of them, by name. Of two folders with one name ours counts, then the first one."""
    files = [file for folder in llmrl.methods.__path__ for file in sorted(Path(folder).glob("*/report.py"))]
    found, problems = dict[str, PaperReport](), []
    for paper, file in {file.parent.name: file for file in reversed(files)}.items():
        try:
            found[paper] = _exported(importlib.import_module(f"llmrl.methods.{paper}.report"))
        except Exception as error:  # noqa: BLE001 (it may be anybody's code)
            problems.append(f"the report of {paper} cannot be used, {file}: {raised(error)}")
    return Reports(dict(sorted(found.items())), sorted(problems))


def _exported(module: ModuleType) -> PaperReport:
    found = getattr(module, "REPORT", None)
    if not isinstance(found, type) or not issubclass(found, PaperReport):
        raise ConfigError(
            "it must export its class: REPORT = <a class that derives from llmrl.contracts.report.PaperReport>"
        )
    return found()


def asked(
    papers: Mapping[str, PaperReport], what: str, ask: Callable[[PaperReport], Iterable[T]]
) -> tuple[list[T], list[str]]:
    """What all reports answer, and why one of them cannot. `what`: how a message calls an answer."""
    found, problems = list[T](), []
    for paper, report in papers.items():
        try:
            found += ask(report)
        except Exception as error:  # noqa: BLE001 (it may be anybody's code)
            problems.append(f"no {what} from the report of {paper}: {raised(error)}")
    return found, problems


def offered(ours: Mapping[str, T], theirs: Mapping[str, Mapping[str, T]]) -> dict[str, T]:
    """What everybody has, and beside it what each paper offers. Raises ConfigError where two have one name."""
    found, owners = dict(ours), dict.fromkeys(ours, "llmrl")
    for paper, named in theirs.items():
        for name, one in named.items():
            if name in found:
                raise ConfigError(f"{paper}/report.py: `{name}` is taken by {owners[name]}; choose another name")
            found[name], owners[name] = one, paper
    return found

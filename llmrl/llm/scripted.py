"""`llm=scripted`: no language model. A paper's rules read the same prompt and answer it, so that all runs offline.

The rules of a paper stand with it: a call for `lesr.sample` is answered by RULES["lesr.sample"] of
llmrl/methods/lesr/scripted.py, here or below LLMRL_PATH.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec

from llmrl.checks import ConfigError

Rule = Callable[[list[dict], str], str]  # (messages, index of the call) -> the answer


def answer(messages: list[dict], purpose: str, index: str = "") -> str:
    """The scripted answer; the same call always gets the same. Raises ConfigError where no rule is known."""
    name = purpose.rsplit("/")[-1]
    paper = name.partition(".")[0]
    rules = rules_of(paper)
    if name not in rules:
        known = f"it knows {', '.join(rules)}" if rules else f"RULES in llmrl/methods/{paper}/scripted.py would hold it"
        raise ConfigError(f"llm=scripted has no rule for {purpose!r}; {known}. Choose a language model: llm=…")
    return rules[name](messages, index)


def rules_of(paper: str) -> Mapping[str, Rule]:
    """What is answered for a paper; empty where it has no scripted answers."""
    folder = f"llmrl.methods.{paper}"
    package = find_spec(folder) if paper.isidentifier() else None
    if package is None or package.submodule_search_locations is None:
        return {}
    return import_module(f"{folder}.scripted").RULES if find_spec(f"{folder}.scripted") else {}

"""Reward programs that an LLM writes for Eureka: out of its reply, and checked on real steps before any training.

A program defines `compute_reward`, whose parameters are among state, action and next_state, and which returns the
reward and a dictionary of its components, by name. It runs in the sandbox, never here.
"""

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmrl.llm import program_text
from llmrl.llm.answer import FAULTS
from llmrl.llm.program_text import Rejected
from llmrl.llm.sandbox import Sandbox, SandboxFailure
from llmrl.methods.search import checks
from llmrl.methods.search.checks import check_pure, within_time
from llmrl.methods.search.steps import Steps

FUNCTION = "compute_reward"
ARGUMENTS = ("state", "action", "next_state")
RESERVED = {"names", "step", "_np", "_reward", "_first", "_check"}  # of ENTRY and CHECKS
MOST_COMPONENTS = 20
REJECTIONS = {  # beside the sandbox's own names
    **program_text.REJECTIONS,
    **checks.REJECTIONS,
    **FAULTS,
    "unknown_argument": "compute_reward has another parameter than state, action and next_state",
    "not_a_pair": "it does not return the reward and a dictionary of components",
    "no_components": "the dictionary is empty",
    "component_name": f"a component has a name that is no short text, or there are more than {MOST_COMPONENTS}",
    "components_change": "the components have other names on another step",
    "not_scalar": "the reward, or a component, is not one number",
    "input_mutated": "the function changed its argument",
    "not_finite": "a value on a real step is infinite or not a number",
    "duplicate": "the same program was proposed before",
}

# Our part of the program's process. `names` (sorted, joined by line feeds) and then `step` are called for each process.
ENTRY = """
import numpy as _np

_first = []  # names of the components

def _reward(state, action, next_state):
    returned = compute_reward($arguments)
    if not (isinstance(returned, tuple) and len(returned) == 2 and isinstance(returned[1], dict)):
        return 0, None, {}
    return 1, returned[0], returned[1]

def names(state, action, next_state):
    _, _, parts = _reward(state, action, next_state)
    _first[:] = sorted(map(str, parts))
    return _np.frombuffer("\\n".join(_first).encode("utf-8", "replace"), dtype=_np.uint8)

def step(state, action, next_state):
    _, reward, parts = _reward(state, action, next_state)
    if sorted(map(str, parts)) != _first:
        raise ValueError("the components have other names than at first")
    return float(reward), _np.array([float(parts[name]) for name in _first])
"""

# Many steps in one call: (number of the broken rule or 0, at which step, rewards (n,), components (n, c)).
RULES = ("", "input_mutated", "not_a_pair", "no_components", "component_name", "components_change", "not_scalar")
CHECKS = (
    ENTRY
    + """
def _check(states, actions, next_states):
    empty = _np.zeros(0), _np.zeros((0, 0))
    rewards, rows, known = [], [], None
    for i, given in enumerate(zip(states, actions, next_states)):
        copies = [part.copy() for part in given]
        pair, reward, parts = _reward(*copies)
        if any(a.tobytes() != b.tobytes() for a, b in zip(copies, given)):
            return 1, i, *empty
        if not pair:
            return 2, i, *empty
        if not parts:
            return 3, i, *empty
        if len(parts) > $most or not all(isinstance(n, str) and 0 < len(n) <= 40 and "\\n" not in n for n in parts):
            return 4, i, *empty
        if known is not None and set(parts) != known:
            return 5, i, *empty
        known = set(parts)
        if _np.ndim(reward) or any(_np.ndim(parts[name]) for name in parts):
            return 6, i, *empty
        rewards.append(float(reward))
        rows.append([float(parts[name]) for name in sorted(parts)])
    return 0, 0, _np.array(rewards), _np.array(rows)
"""
)


@dataclass(frozen=True)
class Facts:
    """What the checks found of an accepted program."""

    components: list[str]  # names, sorted


def extract(reply: str) -> str:
    """The program in a reply. Raises Rejected."""
    return program_text.extract(reply, (FUNCTION,), RESERVED)


def arguments(code: str) -> list[str]:
    """The parameters of compute_reward. Raises Rejected where there are others than state, action and next_state."""
    if not program_text.defined(code, (FUNCTION,), RESERVED):
        raise Rejected("missing_function", f"{FUNCTION} must be defined")
    functions = [node for node in ast.parse(code).body if isinstance(node, ast.FunctionDef) and node.name == FUNCTION]
    signature = functions[-1].args
    if signature.vararg or signature.kwarg or signature.kwonlyargs or signature.posonlyargs:
        raise Rejected("unknown_argument", f"write its parameters by name: {', '.join(ARGUMENTS)}")
    found = [argument.arg for argument in signature.args]
    needed = found[: len(found) - len(signature.defaults)]
    if unknown := [name for name in needed if name not in ARGUMENTS]:
        raise Rejected("unknown_argument", f"{unknown[0]}: there are {', '.join(ARGUMENTS)}")
    return [name for name in found if name in ARGUMENTS]


def harness(code: str, source: str = ENTRY) -> str:
    """Our part of the program's process, which calls it with what it reads. Raises Rejected."""
    named = ", ".join(f"{name}={name}" for name in arguments(code))
    return source.replace("$arguments", named).replace("$most", str(MOST_COMPONENTS))


def names_of(sandbox: Sandbox, *step: NDArray[np.float64]) -> list[str]:
    """The components' names, in the order in which `step` gives their values."""
    (text,) = sandbox.call("names", *step)
    return bytes(text).decode("utf-8").split("\n") if text.size else []


def validate(code: str, steps: Steps, *, timed: bool = True) -> Facts:
    """Checks a program on real steps (n). Raises Rejected."""
    columns = [np.ascontiguousarray(column, np.float64) for column in steps[:3]]
    try:
        source = harness(code, CHECKS)
        with Sandbox(code, (FUNCTION,), source) as sandbox, Sandbox(code, (FUNCTION,), source) as another:
            values = within_time(_checked, sandbox, columns) if timed else _checked(sandbox, columns)
            check_pure(_checked, sandbox, another, columns, values)
            names = names_of(sandbox, *(column[0] for column in columns))
    except SandboxFailure as failure:
        if isinstance(failure, Rejected) or failure.name == "not_started":  # the latter is not the program's fault
            raise
        raise Rejected(failure.name, failure.detail) from failure
    if shown := [name for name in names if not re.fullmatch(r"[\w .:-]+", name)]:
        raise Rejected("component_name", f"{shown[0]!r}: use letters, digits and underscores")
    rewards, components = values
    for what, numbers in {"the reward": rewards[:, None], "component": components}.items():
        if (bad := np.flatnonzero(~np.isfinite(numbers).all(axis=0))).size:
            share = 1 - np.isfinite(numbers[:, bad[0]]).mean()
            what = f"component {names[bad[0]]}" if what == "component" else what
            raise Rejected("not_finite", f"{what}, on {share:.0%} of real steps")
    return Facts(names)


def _checked(sandbox: Sandbox, columns: Sequence[NDArray]) -> tuple[NDArray, NDArray]:
    """(rewards (n,), components (n, c)) of n steps. Raises Rejected where a rule of RULES is broken."""
    rule, at, rewards, components = sandbox.call("_check", *(np.ascontiguousarray(column) for column in columns))
    if name := RULES[int(rule)]:
        raise Rejected(name, f"{REJECTIONS[name]} (step {int(at)})")
    return rewards, components

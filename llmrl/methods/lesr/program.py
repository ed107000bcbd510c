"""Programs that an LLM writes for LESR: extracted from its reply, and checked on real states before any training.

A program defines `revise_state(s)`, which returns s with features appended, and `intrinsic_reward(updated_s)`; in a
reward-only search (EUREKA) `intrinsic_reward(s)` alone. It runs in the sandbox, never here.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from llmrl.llm import program_text
from llmrl.llm.answer import FAULTS
from llmrl.llm.program_text import Rejected
from llmrl.llm.sandbox import Limits, Sandbox, SandboxFailure
from llmrl.methods.search import checks
from llmrl.methods.search.checks import check_pure, within_time
from llmrl.runs import seeding

FUNCTIONS = ("revise_state", "intrinsic_reward")
# Rejections that can be switched off (method.search.reject), beside the limits; docs/papers/lesr.md has the whole list.
Rejection = Literal["duplicate", "no_features", "not_finite", "fails_on_extremes", "too_slow", "ignores_features"]
DEFAULT_REJECT: tuple[Rejection, ...] = ("duplicate", "no_features", "not_finite", "fails_on_extremes", "too_slow")
RESERVED = {"step", "_np", "_given", "_check", "_sensitivity", "_needs_features"}  # of ENTRY and CHECKS
REJECTIONS = {  # beside the sandbox's own names
    **{name: program_text.REJECTIONS[name] for name in ("no_code", "reserved_name")},
    "unwanted_features": "a reward alone was asked for, but the program revises the state",
    "no_features": "revise_state appends nothing",
    "too_many_features": "it appends more than the limit",
    "wrong_length": "the revised state is no vector, or its length changes from state to state",
    "prefix_changed": "the revised state does not begin with the state",
    "input_mutated": "a function changed its argument",
    "not_finite": "a value on a real state is infinite or not a number",
    "reward_not_scalar": "the intrinsic reward is not one number",
    "reward_too_large": "the intrinsic reward is beyond a limit",
    "ignores_features": "the intrinsic reward depends on none of the added dimensions",
    **checks.REJECTIONS,
    **FAULTS,
}
SENSITIVITY_STATES = 32

# Our part of the program's process: one call per new state.
ENTRY = """
import numpy as _np

_given = set(globals())
if "revise_state" not in _given:
    def revise_state(s):
        return s
if "intrinsic_reward" not in _given:
    def intrinsic_reward(updated_s):
        return 0.0

def step(s):
    x = _np.asarray(revise_state(s), dtype=_np.float64)
    return x[len(s):], float(intrinsic_reward(x))
"""

# The checks' part: many states in one call. `_check` returns (number of the broken rule or 0, at which state, X, G).
RULES = ("", "input_mutated", "wrong_length", "no_features", "prefix_changed", "reward_not_scalar")
CHECKS = (
    ENTRY
    + """
def _check(states):
    n, d = states.shape
    empty = _np.zeros((0, 0)), _np.zeros(0)
    rows, rewards = [], []
    for i, state in enumerate(states):
        s = state.copy()
        x = _np.asarray(revise_state(s), dtype=_np.float64)
        if s.tobytes() != state.tobytes():
            return 1, i, *empty
        if x.ndim != 1 or len(x) < d or (rows and len(x) != len(rows[0])):
            return 2, i, *empty
        if len(x) == d and _needs_features:
            return 3, i, *empty
        if not (x[:d] == state).all():
            return 4, i, *empty
        rows.append(x.copy())
    for i, row in enumerate(rows):
        x = row.copy()
        g = intrinsic_reward(x)
        if x.tobytes() != row.tobytes():
            return 1, i, *empty
        if _np.ndim(g) != 0:
            return 5, i, *empty
        rewards.append(float(g))
    return 0, 0, _np.array(rows), _np.array(rewards)

def _sensitivity(x, steps):
    d = x.shape[1] - len(steps)
    depends = _np.zeros(len(steps), dtype=bool)
    for row in x:
        base = float(intrinsic_reward(row.copy()))
        for j in _np.flatnonzero(~depends):
            for factor in (-5.0, -0.5, 0.5, 5.0):
                moved = row.copy()
                moved[d + j] += factor * steps[j]
                try:
                    g = float(intrinsic_reward(moved))
                except Exception:
                    g = _np.nan
                depends[j] |= g != base
    return depends
"""
)


@dataclass(frozen=True)
class Facts:
    """What the checks found in an accepted program. It has no timings: the transcript records it, and must not vary."""

    features: int  # appended dimensions
    ignored: list[int]  # indices of those that the intrinsic reward does not depend on
    not_finite: int  # values that are not finite, on real states and extreme ones; in training such a value counts as 0
    reward_median: float  # of |G| on real states
    reward_max: float
    reward_share: float | None  # mean |w G| / mean |r| on real steps; None where r is 0 on all of them, or not given


def extract(reply: str) -> str:
    """The program in a reply, or a reward alone. Raises Rejected."""
    return program_text.extract(reply, FUNCTIONS, RESERVED)


def defined(code: str) -> tuple[str, ...]:
    """Which of the two functions a program defines. Raises Rejected."""
    return program_text.defined(code, FUNCTIONS, RESERVED)


# --- checked ----------------------------------------------------------------------------------------------------------


def validate(
    code: str,
    states: NDArray[np.float64],
    *,
    w: float,
    max_features: int | None,
    max_reward: float,
    revise: bool = True,
    rewards: NDArray[np.float64] | None = None,
    max_real_reward: float | None = None,
    max_reward_share: float | None = None,
    reject: Collection[Rejection] = DEFAULT_REJECT,
    seed: int = 0,
    limits: Limits = Limits(),  # noqa: B008  (frozen)
) -> Facts:
    """Checks a program on real `states` (n, d) and on extreme ones made of them. Raises Rejected.

    `max_reward` bounds |G| on one standard normal state of `seed`, the authors' own check; `max_real_reward` on every
    real state; `max_reward_share` bounds mean |w G| / mean |r|, r being the `rewards` (n,) of the steps that left the
    states. With their names in `reject`: values on real states must be finite (not_finite); on the extremes (zeros, ten
    deviations, single large entries) the program must keep the shape and raise nothing (fails_on_extremes), and what is
    not finite there is counted. `revise=False`: a program with a reward alone.
    """
    states = np.ascontiguousarray(states, np.float64)
    if not revise and FUNCTIONS[0] in defined(code):
        raise Rejected("unwanted_features", "write intrinsic_reward(s) alone, without revise_state")
    functions = FUNCTIONS if revise else FUNCTIONS[1:]
    harness = f"{CHECKS}\n_needs_features = {revise and 'no_features' in reject}\n"
    try:
        with Sandbox(code, functions, harness, limits=limits) as sandbox:
            timed = "too_slow" in reject
            x, g = within_time(_checked, sandbox, [states]) if timed else _checked(sandbox, [states])
            features = x.shape[1] - states.shape[1]
            if max_features is not None and features > max_features:
                raise Rejected("too_many_features", f"it appends {features} dimensions, at most {max_features} may be")
            if "not_finite" in reject:
                _check_finite(x, g, states.shape[1])
            not_finite = int((~np.isfinite(x)).sum() + (~np.isfinite(g)).sum())
            not_finite += _on_extremes(sandbox, states) if "fails_on_extremes" in reject else 0
            with Sandbox(code, functions, harness, limits=limits) as another:
                check_pure(_checked, sandbox, another, [states], (x, g))
            _check_random_state(sandbox, states.shape[1], max_reward, seed)  # pure by now, so one call suffices
            g = np.nan_to_num(g, posinf=0, neginf=0)  # as in training
            share = _check_size(g, w, max_real_reward, rewards, max_reward_share)
            ignored = _ignored(sandbox, x, states.shape[1]) if features else []
            if features and len(ignored) == features and "ignores_features" in reject:
                raise Rejected("ignores_features", REJECTIONS["ignores_features"])
    except SandboxFailure as failure:
        if isinstance(failure, Rejected) or failure.name == "not_started":  # the latter is not the program's fault
            raise
        raise Rejected(failure.name, failure.detail) from failure
    return Facts(
        features=features, ignored=ignored, not_finite=not_finite,
        reward_median=_rounded(np.median(np.abs(g))), reward_max=_rounded(np.abs(g).max()), reward_share=share,
    )  # fmt: skip


def _checked(sandbox: Sandbox, columns: Sequence[NDArray]) -> tuple[NDArray, NDArray]:
    """(X (n, D), G (n,)) of the one column, states (n, d), in one call. Raises Rejected where a rule of RULES is
    broken."""
    rule, at, x, g = sandbox.call("_check", np.ascontiguousarray(columns[0]))
    if name := RULES[int(rule)]:
        raise Rejected(name, f"{REJECTIONS[name]} (state {int(at)})")
    return x, g


def _check_finite(x: NDArray, g: NDArray, d: int) -> None:
    if (bad := np.flatnonzero(~np.isfinite(x).all(axis=0))).size:
        share = 1 - np.isfinite(x[:, bad[0]]).mean()
        raise Rejected("not_finite", f"dimension {bad[0]}, added number {bad[0] - d}, on {share:.0%} of real states")
    if not np.isfinite(g).all():
        raise Rejected("not_finite", f"the intrinsic reward, on {1 - np.isfinite(g).mean():.0%} of real states")


def _on_extremes(sandbox: Sandbox, states: NDArray) -> int:
    """How many values on extreme states are not finite. Raises Rejected, saying that the state was extreme."""
    mean, deviation = states.mean(axis=0), states.std(axis=0)
    single = np.diag(100 * deviation + 1)
    extremes = [np.zeros_like(mean), mean + 10 * deviation, mean - 10 * deviation, *(mean + single), *(mean - single)]
    try:
        x, g = _checked(sandbox, [np.array(extremes)])
    except SandboxFailure as failure:
        raise Rejected(failure.name, f"on an extreme state (zeros, or very large entries): {failure.detail}") from None
    return int((~np.isfinite(x)).sum() + (~np.isfinite(g)).sum())


def _check_random_state(sandbox: Sandbox, d: int, max_reward: float, seed: int) -> None:
    """What the authors' code checks: both functions run on one standard normal state, and |G| is at most a bound."""
    state = seeding.generator(seed, "random_state").standard_normal((1, d))
    try:
        size = abs(_checked(sandbox, [state])[1][0])
    except SandboxFailure as failure:
        raise Rejected(failure.name, f"on a state of standard normal numbers: {failure.detail}") from None
    if not size <= max_reward:  # not `>`: NaN exceeds every bound
        raise Rejected("reward_too_large", f"{size:.4g} in size on a state of normal numbers, at most {max_reward:g}")


def _check_size(
    g: NDArray, w: float, max_real_reward: float | None, rewards: NDArray | None, max_reward_share: float | None
) -> float | None:
    if max_real_reward is not None and (largest := np.abs(g).max()) > max_real_reward:
        raise Rejected("reward_too_large", f"up to {largest:.4g} in size on real states, at most {max_real_reward:g}")
    if rewards is None or not np.abs(rewards).mean():
        return None
    share = _rounded(w * np.abs(g).mean() / np.abs(rewards).mean())
    if max_reward_share is not None and share > max_reward_share:
        detail = f"weighted by w it is on average {share:.4g} times the task's reward, at most {max_reward_share:g}"
        raise Rejected("reward_too_large", detail)
    return share


def _ignored(sandbox: Sandbox, x: NDArray, d: int) -> list[int]:
    """Indices of the added dimensions whose change does not change the reward, by finite differences (D24)."""
    rows = x[np.linspace(0, len(x) - 1, SENSITIVITY_STATES).astype(int)]
    deviation = x[:, d:].std(axis=0)
    (depends,) = sandbox.call("_sensitivity", np.ascontiguousarray(rows), np.where(deviation > 0, deviation, 1.0))
    return (d + np.flatnonzero(~depends)).tolist()


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")

"""Programs that an LLM writes for ExploRLLM: extracted from its reply, checked on observations, run in the sandbox.

Three functions make a policy (docs/papers/explorllm.md): `planner` chooses the primitive and the object, `affordance`
and `place_map` the place on it. A failure is named, counted, and replaced: a map by the uniform one (the paper's), a
plan by a random possible one (ours).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmrl.llm import program_text
from llmrl.llm.sandbox import FAILURES, Limits, Sandbox, SandboxFailure, check_source

FUNCTIONS = ("planner", "affordance", "place_map")
PURPOSES = {"planner": "explorllm.planner", "affordance": "explorllm.affordance", "place_map": "explorllm.place"}
# What can be wrong with a program beside the sandbox's own names (raised, timeout, syntax, forbidden_import, …).
FAULTS = {
    "no_code": program_text.REJECTIONS["no_code"],
    "wrong_shape": "it returned something else than two whole numbers (planner) or an array (28, 28) (maps)",
    "not_finite": "it returned values that, or whose sum, are infinite or not a number",
    "negative": "the map holds negative numbers",
    "all_zero": "the map is zero everywhere",
    "wrong_choice": "the plan is neither to pick an object 0-2 nor to place a held one at another object",
    "no_program": "no program passed the checks",
}
CROP = 28  # pixels of a map's side
NUMBERED = ("", "raised", *FAULTS)  # how the child names them
LIMITS = Limits(seconds_per_call=10.0)  # of many crops at once, on a machine that may be busy
RESTARTS = 3  # of a child that a program ended; then its programs count as failed

# Our part of the child's process: each program in a namespace of its own, and one call per step of the environment.
ENTRY = """
import numpy as _np
from __main__ import execute as _execute  # the sandbox's child: llmrl/llm/sandbox/child.py

def _load(source, name):
    space = {"__name__": "generated", "__builtins__": __builtins__}
    _execute(source, space, [name])
    return space[name]

_planner, _affordance, _place = [_load(s, n) if s else None for s, n in zip(SOURCES, FUNCTIONS)]
_kept = {}  # maps of crops that were seen before: an object's crop stays the same until it moves

def _numbered(name):
    return NUMBERED.index(name)

def _array(returned):
    try:
        return _np.array(returned, dtype=_np.float64)
    except Exception:
        return _np.zeros(0)  # of no shape that is asked for

def _plan(held, position, wanted):
    if _planner is None:
        return (0, 0), _numbered("no_program")
    try:
        returned = _planner(int(held), position.copy(), wanted.copy())
    except Exception:
        return (0, 0), _numbered("raised")
    plan = _array(returned)
    if plan.shape != (2,):
        return (0, 0), _numbered("wrong_shape")
    if not _np.isfinite(plan).all():
        return (0, 0), _numbered("not_finite")
    place, slot = plan.tolist()
    pick = place == 0 and slot in (0, 1, 2)
    if not pick and not (place == 1 and slot in range(6) and held >= 0 and slot != held):
        return (0, 0), _numbered("wrong_choice")
    return (int(place), int(slot)), 0

def _map(function, *crops):
    uniform = _np.ones((CROP, CROP))
    if function is None:
        return uniform, _numbered("no_program")
    key = b"".join([crop.tobytes() for crop in crops])
    if key not in _kept:
        if len(_kept) == 1000:
            _kept.clear()
        try:
            found = _array(function(*[crop.copy() for crop in crops]))
            fault = _fault(found)
        except Exception:
            fault = "raised"
        _kept[key] = (uniform if fault else found), _numbered(fault)
    return _kept[key]

def _fault(found):
    if found.shape != (CROP, CROP):
        return "wrong_shape"
    if not _np.isfinite(found.sum()):
        return "not_finite"
    if (found < 0).any():
        return "negative"
    return "" if found.any() else "all_zero"

def decide(held, position, wanted, spare, rgb):
    n = len(held)
    plans, maps = _np.zeros((n, 2), "int64"), _np.zeros((n, CROP, CROP))
    faults = _np.zeros((n, 2), "int64")
    for i in range(n):
        plan, faults[i, 0] = _plan(held[i], position[i], wanted[i])
        place, slot = plans[i] = spare[i] if faults[i, 0] else plan
        crops = (rgb[i, held[i]], rgb[i, slot]) if place else (rgb[i, slot],)
        maps[i], faults[i, 1] = _map(_place if place else _affordance, *crops)
    return plans, maps, faults

def plan_of(held, position, wanted):
    plans = [_plan(h, p, w) for h, p, w in zip(held, position, wanted)]
    return _np.array([p for p, _ in plans]), _np.array([fault for _, fault in plans])

def maps_of(*crops):
    function = _affordance if len(crops) == 1 else _place
    found = [_map(function, *each) for each in zip(*crops)]
    return _np.array([m for m, _ in found]), _np.array([fault for _, fault in found])

def rerun(*arguments):  # lets an exception out, so that its text is known
    function = _planner or _affordance or _place
    function(*[int(a) if a.ndim == 0 else a for a in arguments])
    return ()
"""


RETURNED = {"decide": 3, "plan_of": 2, "maps_of": 2, "rerun": 0}  # arrays


class Rejected(Exception):
    """The program cannot be used; `name` is one of FAULTS or of the sandbox's failures."""

    def __init__(self, name: str, detail: str = "") -> None:
        self.name, self.detail = name, detail or (FAILURES | FAULTS)[name]
        super().__init__(f"{name}: {self.detail}")


@dataclass(frozen=True)
class Seen:
    """The inputs of programs for n tables."""

    held: NDArray[np.int64]  # (n,) slot, -1: nothing
    position: NDArray[np.float64]  # (n, 6, 2) pixels
    wanted: NDArray[np.int64]  # (n, pairs, 2) slot of an object, slot of its bowl
    rgb: NDArray[np.uint8]  # (n, 6, 28, 28, 3)


@dataclass(frozen=True)
class Decisions:
    """The decisions of programs for n tables."""

    place: NDArray[np.bool_]  # (n,)
    slot: NDArray[np.int64]  # (n,)
    maps: NDArray[np.float64]  # (n, 28, 28), not negative, not all zero
    failures: list[str]  # such as "planner.raised" or "affordance.timeout"


# --- out of the reply -------------------------------------------------------------------------------------------------


def extract(reply: str, function: str) -> str:
    """The program in a reply. Raises Rejected: what llm/program_text.py and the sandbox's gate find."""
    try:
        code = program_text.extract(reply, [function])
        check_source(code, [function], LIMITS)
    except SandboxFailure as failure:
        raise Rejected(failure.name, failure.detail) from None
    return code


def checked(reply: str, function: str, seen: "Seen") -> str:
    """The program in a reply, which works on all tables of `seen`. Raises Rejected."""
    code = extract(reply, function)
    with Programs(**{name: code if name == function else None for name in FUNCTIONS}) as programs:
        programs.check(seen)
    return code


# --- run --------------------------------------------------------------------------------------------------------------


class Programs:
    """The three programs in one child process. `planner`, `affordance`, `place_map`: sources, or None."""

    def __init__(self, planner: str | None, affordance: str | None, place_map: str | None) -> None:
        self.sources = (planner, affordance, place_map)
        facts = {"SOURCES": self.sources, "FUNCTIONS": FUNCTIONS, "NUMBERED": NUMBERED, "CROP": CROP}
        self._entry = "".join(f"{name} = {value!r}\n" for name, value in facts.items()) + ENTRY
        self._ended = 0
        self._sandbox: Sandbox | None = None

    def decide(self, seen: Seen, spare: NDArray[np.int64]) -> Decisions:
        """What to do at each of n tables, in one call. spare: (n, 2) the plans (place, slot) to use where the planner
        fails."""
        n = len(seen.held)

        def valid(plans: NDArray, maps: NDArray, faults: NDArray) -> bool:
            return _are_plans(plans, seen.held) and _are_maps(maps, n) and _are_faults(faults, (n, 2))

        try:
            plans, maps, faults = self._call("decide", seen.held, seen.position, seen.wanted, spare, seen.rgb,
                                             valid=valid)  # fmt: skip
        except SandboxFailure as failure:  # it ended the child, so which of them it was is unknown
            name = f"programs.{failure.name}"
            return Decisions(spare[:, 0] == 1, spare[:, 1], np.ones((n, CROP, CROP)), [name] * n)
        kinds = np.where(plans[:, 0] == 1, "place_map", "affordance")
        names = [f"planner.{NUMBERED[f]}" for f in faults[:, 0] if f]
        names += [f"{kind}.{NUMBERED[f]}" for kind, f in zip(kinds, faults[:, 1]) if f]
        return Decisions(plans[:, 0] == 1, plans[:, 1], maps, names)

    def maps_of(self, *crops: NDArray[np.uint8]) -> tuple[NDArray[np.float64], list[str]]:
        """Maps (n, 28, 28) for crops (n, 28, 28, 3), one array for picks and two for places, and their faults.
        Raises SandboxFailure."""
        n = len(crops[0])
        maps, faults = self._call("maps_of", *crops, valid=lambda m, f: _are_maps(m, n) and _are_faults(f, (n,)))
        return maps, [NUMBERED[f] for f in faults]

    def check(self, seen: Seen) -> None:
        """Tests the one given program on all tables of `seen`. Raises Rejected with the first fault."""
        which = next(i for i, source in enumerate(self.sources) if source is not None)
        arguments: Sequence[NDArray] = [seen.rgb[:, 0]]
        if FUNCTIONS[which] == "planner":
            arguments = [seen.held, seen.position, seen.wanted]
        elif FUNCTIONS[which] == "place_map":
            arguments = [seen.rgb[:, 0], seen.rgb[:, 3]]
        try:
            n = (len(seen.held),)
            function = "plan_of" if which == 0 else "maps_of"
            _, faults = self._call(function, *arguments, valid=lambda _, faults: _are_faults(faults, n))
            if faults.any():
                at = int(np.flatnonzero(faults)[0])
                if NUMBERED[faults[at]] == "raised":
                    self._call("rerun", *[np.ascontiguousarray(a[at]) for a in arguments], valid=lambda *_: True)
                raise Rejected(NUMBERED[faults[at]])
        except SandboxFailure as failure:
            if failure.name == "not_started":  # this machine's fault
                raise
            raise Rejected(failure.name, failure.detail) from None

    def close(self) -> None:
        if self._sandbox is not None:
            self._sandbox.close()
            self._sandbox = None

    def __enter__(self) -> "Programs":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, function: str, *arrays: NDArray, valid: Callable[..., bool]) -> tuple[NDArray, ...]:
        """Calls the child, which is started at the first call, and again after a program has ended it. What comes back
        is checked by `valid`: programs run beside our part of the child, and may have changed it."""
        if self._sandbox is None:
            if self._ended > RESTARTS:
                raise SandboxFailure("dead", "the programs ended their process too often")
            self._sandbox = Sandbox("", (), self._entry, limits=LIMITS)
        try:
            values = self._sandbox.call(function, *arrays)
            if len(values) != RETURNED[function] or not valid(*values):
                raise SandboxFailure("bad_output", f"{function} returned an invalid answer")
            return values
        except SandboxFailure as failure:
            if failure.name in ("timeout", "died", "bad_output", "dead"):
                self._ended += 1
                self.close()
            raise


# --- what may come back from the child --------------------------------------------------------------------------------


def _are_plans(plans: NDArray, held: NDArray) -> bool:
    """Whether these are (n, 2) plans (place, slot) that are possible with these slots `held` (n,)."""
    if plans.shape != (len(held), 2) or plans.dtype != np.int64:
        return False
    place, slot = plans.T
    pick = (place == 0) & (slot >= 0) & (slot < 3)
    put = (place == 1) & (slot >= 0) & (slot < 6) & (held >= 0) & (slot != held)
    return bool((pick | put).all())


def _are_maps(maps: NDArray, n: int) -> bool:
    """Whether these are (n, 28, 28) weights to draw pixels by."""
    if maps.shape != (n, CROP, CROP) or maps.dtype != np.float64:
        return False
    with np.errstate(over="ignore", invalid="ignore"):
        total = maps.sum(axis=(1, 2))
    return bool((maps >= 0).all() and ((total > 0) & (total < np.inf)).all())


def _are_faults(faults: NDArray, shape: tuple[int, ...]) -> bool:
    """Whether these are numbers of NUMBERED."""
    if faults.shape != shape or faults.dtype != np.int64:
        return False
    return bool(((faults >= 0) & (faults < len(NUMBERED))).all())

"""How rough the reward is along each dimension of the state (LESR; docs/papers/lesr.md).

    L_i = max over neighbours j, j+1 in the order of x_i of  |r_(j+1) - r_(j)| / (|x_(j+1) - x_(j)| + 0.01)

is taken at each episode's end and averaged over episodes; prompts hold the averages, and say that lower is better.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from llmrl.runs import seeding

TAU = 0.005  # of the average over episodes (authors' code)
EPSILON = 0.01  # added to a distance; in units of the state (authors' code), or of its deviation (scaled)
QUANTILE = 0.95  # scaled: this quantile in place of the maximum, which one lucky pair decides
MIN_GAP = 0.1  # scaled: nearer points are not compared; in units of a dimension's deviation
RESERVOIR = 10_000  # cumulative: env_steps kept of all that there were
GROWTH = 1.05  # cumulative: the constants are computed anew when there are so many times more env_steps

Array = NDArray[np.float64]


def constants(x: Array, r: Array) -> Array:
    """(n, D) states in the order of time and the (n,) rewards of the steps that left them -> (D,) constants.

    Equal values keep their order in time; what is not a number counts as 0; a single state has constants 0.
    """
    if len(x) < 2:
        return np.zeros(x.shape[1])
    order = np.argsort(x, axis=0, kind="stable")
    with np.errstate(invalid="ignore"):
        dx = np.abs(np.diff(np.take_along_axis(x, order, axis=0), axis=0))
        dr = np.abs(np.diff(r[order], axis=0))
        found = (dr / (dx + EPSILON)).max(axis=0)
    return np.where(np.isnan(found), 0.0, found)


def scaled_constants(x: Array, r: Array, deviation: Array) -> Array:
    """`constants` for dimensions of different units (D4): x in units of its deviation (D,), every point compared with
    the next one at least MIN_GAP away, a quantile for the maximum. A dimension that does not vary has constant 0."""
    found = np.zeros(x.shape[1])
    for i in np.flatnonzero(deviation > 0):
        order = np.argsort(x[:, i], kind="stable")
        u, rewards = x[order, i] / deviation[i], r[order]
        partner = np.searchsorted(u, u + MIN_GAP)
        near = np.flatnonzero(partner < len(u))
        if near.size:
            far = partner[near]
            ratios = np.abs(rewards[far] - rewards[near]) / (u[far] - u[near] + EPSILON)
            found[i] = np.nan_to_num(np.sort(ratios)[int(QUANTILE * (len(ratios) - 1))])
    return found


def discounted_returns(rewards: Array, gamma: float) -> Array:
    """sum_k gamma^k r_(t+k) to the episode's end, for each of its steps: (n,) -> (n,)."""
    returns, total = np.empty_like(rewards), 0.0
    for t in reversed(range(len(rewards))):
        total = rewards[t] + gamma * total
        returns[t] = total
    return returns


class Recorder:
    """The constants over a training: C <- tau L + (1 - tau) C at each episode's end, from C = 0.

    episode: L of the episode's steps (the paper). cumulative: L of all steps so far (authors' code, D3), here of a
    random sample of at most RESERVOIR of them. of="discounted_return": in place of the reward, the discounted return
    from that step (the paper's variant for sparse rewards). corrected: C / (1 - (1 - tau)^episodes), so that few and
    many episodes compare (D5); the authors' prompts hold C itself.
    """

    def __init__(
        self,
        mode: Literal["episode", "cumulative"],
        scaled: bool,
        of: Literal["reward", "discounted_return"],
        gamma: float,
        *,
        corrected: bool = True,
        seed: int = 0,
    ) -> None:
        self._mode, self._scaled, self._of, self._gamma, self._corrected = mode, scaled, of, gamma, corrected
        self._states: list[Array] = []  # of the episode under way
        self._rewards: list[float] = []
        self._rng = seeding.generator(seed, "lipschitz")
        self._episodes = 0
        self._average: Array | None = None  # C, (D,)
        self._latest: Array | None = None  # L, (D,)
        self._steps = 0  # env_steps of ended episodes
        self._computed_at = 0  # how many of them there were when L was computed
        self._moments: Array | None = None  # (2, D): mean, and sum of squared distances from it
        self._x: Array | None = None  # the reservoir: (<= RESERVOIR, D), and (<= RESERVOIR,)
        self._r: Array | None = None

    def add(self, state: NDArray, reward: float) -> None:
        """One step: the augmented state (D,) before it, and the task's own reward for it."""
        self._states.append(np.array(state, np.float64))
        self._rewards.append(reward)

    def end_episode(self) -> None:
        """The steps since the last call become part of the constants."""
        if not self._states:
            return
        x, r = np.array(self._states), np.array(self._rewards, np.float64)
        self._states, self._rewards = [], []
        if self._of == "discounted_return":
            r = discounted_returns(r, self._gamma)
        self._take_moments(x)
        n = len(x)
        if self._mode == "cumulative":
            x, r = self._sample(x, r)
        self._steps += n
        if self._mode == "episode":
            self._latest = self._constants(x, r)
        elif self._latest is None or self._steps >= GROWTH * self._computed_at:
            self._latest, self._computed_at = self._constants(x, r), self._steps
        before: Array | float = 0.0 if self._average is None else self._average
        self._average = TAU * self._latest + (1 - TAU) * before
        self._episodes += 1

    def value(self) -> Array:
        """The constants that ended episodes leave: (D,), or (0,) before one has ended."""
        if self._average is None:
            return np.zeros(0)
        return self._average / (1 - (1 - TAU) ** self._episodes) if self._corrected else self._average.copy()

    def state_dict(self) -> dict:
        """What ended episodes left. The episode under way is not in it: a resume plays it again."""
        arrays = {key: None if value is None else value.copy() for key, value in self._arrays().items()}
        counters = {"episodes": self._episodes, "steps": self._steps, "computed_at": self._computed_at}
        return {**arrays, **counters, "rng": self._rng.bit_generator.state}

    def load_state_dict(self, state: dict) -> None:
        """Restores what ended episodes left; what was added since the episode's start stays."""
        for key in self._arrays():
            setattr(self, f"_{key}", None if state[key] is None else state[key].copy())
        self._episodes, self._steps, self._computed_at = state["episodes"], state["steps"], state["computed_at"]
        self._rng.bit_generator.state = state["rng"]

    def _arrays(self) -> dict[str, Array | None]:
        return {"average": self._average, "latest": self._latest, "moments": self._moments, "x": self._x, "r": self._r}

    def _constants(self, x: Array, r: Array) -> Array:
        if not self._scaled:
            return constants(x, r)
        assert self._moments is not None  # every episode takes them first
        return scaled_constants(x, r, np.sqrt(self._moments[1] / self._steps))

    def _take_moments(self, x: Array) -> None:
        """Mean and squared distances of all steps so far, without keeping them (Chan et al. 1979)."""
        mean, n, m = x.mean(axis=0), self._steps, len(x)
        squares = np.square(x - mean).sum(axis=0)
        if self._moments is not None:
            shift = mean - self._moments[0]
            squares = self._moments[1] + squares + np.square(shift) * n * m / (n + m)
            mean = self._moments[0] + shift * m / (n + m)
        self._moments = np.array([mean, squares])

    def _sample(self, x: Array, r: Array) -> tuple[Array, Array]:
        """The reservoir with these steps: it holds every step so far with the same probability (Vitter 1985,
        algorithm R)."""
        old_x, old_r = (x[:0], r[:0]) if self._x is None or self._r is None else (self._x, self._r)
        fits = min(RESERVOIR - len(old_x), len(x))
        kept_x, kept_r = np.concatenate([old_x, x[:fits]]), np.concatenate([old_r, r[:fits]])
        numbers = np.arange(self._steps + fits, self._steps + len(x))
        places = self._rng.integers(0, numbers + 1)
        for place, step in zip(places, range(fits, len(x)), strict=True):
            if place < RESERVOIR:
                kept_x[place], kept_r[place] = x[step], r[step]
        self._x, self._r = kept_x, kept_r
        return kept_x, kept_r


def spectral_norm_product(weights: Sequence[Array]) -> float:
    """The product of the layers' spectral norms: with 1-Lipschitz activations a bound of Lip(V; S) (the paper's
    variant "LESR with Spectral Norm"). `weights`: matrices (out, in), first layer first."""
    return float(np.prod([np.linalg.norm(w, 2) for w in weights]))


def spectral(weights: Sequence[Array], d: int) -> Array:
    """The same for each of the first `d` inputs alone: (d,). How the paper divides the product among dimensions is not
    known; this is ours: |first layer's column|_2 times the product of the other layers' spectral norms."""
    first, *others = weights
    return np.linalg.norm(np.asarray(first, np.float64)[:, :d], axis=0) * spectral_norm_product(others)

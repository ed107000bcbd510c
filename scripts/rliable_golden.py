"""Writes tests/fixtures/rliable.json: what rliable 1.2.0 makes of some scores. Runs in an environment of its own:

    python3.11 -m venv /tmp/rliable && /tmp/rliable/bin/pip install rliable==1.2.0 "arch<8" "pandas<3" "numpy<2"
    /tmp/rliable/bin/python scripts/rliable_golden.py

rliable 1.2.0 does not import with pandas 3, which a plain `pip install rliable` brings.
"""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
from rliable import library, metrics

OUT = Path(__file__).resolve().parents[1] / "tests" / "fixtures" / "rliable.json"
AGGREGATES = {
    "mean": metrics.aggregate_mean,
    "median": metrics.aggregate_median,
    "iqm": metrics.aggregate_iqm,
    "optimality_gap": metrics.aggregate_optimality_gap,
}


def case(rng: np.random.Generator, runs: int, tasks: int, decimals: int | None) -> dict:
    """Scores of two algorithms, (runs, tasks), and rliable's numbers for them. Rounded scores have ties."""
    x = rng.lognormal(0, 1, (runs, tasks))
    y = rng.lognormal(0.2, 1, (max(2, runs - 1), tasks))
    if decimals is not None:
        x, y = x.round(decimals), y.round(decimals)
    thresholds = np.linspace(0, 3, 7)
    np.random.seed(0)  # rliable draws globally, whatever its random_state
    interval = library.StratifiedBootstrap(x).conf_int(
        lambda s: np.array([metrics.aggregate_iqm(s)]), reps=5000, size=0.95, method="percentile"
    )
    return {
        "x": x.T.tolist(),  # one list per task
        "y": y.T.tolist(),
        **{name: float(function(x)) for name, function in AGGREGATES.items()},
        "probability_of_improvement": float(metrics.probability_of_improvement(x, y)),
        "thresholds": thresholds.tolist(),
        "profile": [float(library.run_score_deviation(x, t)) for t in thresholds],
        "iqm_interval": interval[:, 0].tolist(),
    }


def main() -> None:
    rng = np.random.default_rng(0)
    cases = [case(rng, *shape) for shape in ((5, 26, None), (3, 1, None), (10, 7, 0), (4, 2, 1))]
    made_by = {name: version(name) for name in ("rliable", "numpy", "scipy", "arch")}
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps({"made_by": made_by, "cases": cases}, indent=1) + "\n")
    print(f"{OUT}: {len(cases)} cases")


if __name__ == "__main__":
    main()

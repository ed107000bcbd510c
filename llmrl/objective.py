"""What a run came to in one number, for what searches: the key `objective`, which Hydra's sweepers and `llmrl tune`
maximise."""

from pathlib import Path

from llmrl.checks import ConfigError, nearest

LAST = "last"  # the value of conf/run.yaml


def check_objective(text: str) -> None:
    """Raises ConfigError, with the nearest name, where `text` is no objective."""
    if text != LAST:
        _parsed(text)


def objective_of(run: Path, text: str = LAST) -> float | None:
    """The number of a run, finished or not; None where it has none yet.

    Args:
        run: its directory.
        text: `<score>`, `<metric>` or `<metric>/<score>`, with the words of a table's yaml (docs/tables.md): last,
            mean_last_5, success, success/best …
    """
    from llmrl.report.store.reading import read_run
    from llmrl.report.tables.metrics import Evaluated

    metric, score = _parsed(text)
    record = read_run(run, run.parents[3])
    if record.damaged:
        return None
    if isinstance(metric, Evaluated):
        return metric.number(record, score, None)
    return metric.number(record) if record.result is not None else None


def _parsed(text: str):
    """(metric, score). Raises ConfigError."""
    from llmrl.report.tables.metrics import SCORES, Score, checked, known

    first, slash, second = text.partition("/")
    metrics = known()
    try:
        if slash:
            return metrics[checked(first)], Score.parse(second)
        if first in metrics:
            return metrics[first], Score.parse(LAST)
        return metrics["return"], Score.parse(first)
    except ConfigError as error:
        near = "" if slash else nearest(first, [*SCORES, *metrics])
        message = f"unknown score or metric `{first}`.{near}" if near else str(error)
        raise ConfigError(f"objective: {message}") from None

"""What KALM adds to tables: the quality of imagined rollouts, as a run of method=kalm/rollouts measures it."""

from llmrl.contracts.report import Metric, PaperReport
from llmrl.report.store.record import RunRecord


def measured(name: str, unit: str) -> Metric:
    """A number of a run's rollouts; tiers of cases share its scale."""

    def number(record: RunRecord) -> float | None:
        return ((record.result or {}).get("kalm_rollouts") or {}).get(name)

    return Metric(unit, number, one_scale=True)


class KALMReport(PaperReport):
    """Numbers of its imagined rollouts."""

    metrics = {
        "match": measured("match", "share of imagined rollouts that reach their goal"),
        "outside_workbench": measured("outside_workbench", "share of imagined steps that end outside of the workbench"),
        "beyond_dynamics": measured("beyond_dynamics", "share of imagined steps that move a ball too far"),
    }


REPORT = KALMReport

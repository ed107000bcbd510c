"""What ExploRLLM adds to pages: the programs that its language model wrote."""

from llmrl.contracts.report import PaperReport, Program
from llmrl.methods.explorllm.program import PURPOSES
from llmrl.methods.search.verdicts import programs
from llmrl.report.store.record import RunRecord


class ExploRLLMReport(PaperReport):
    """Programs, by function: they are asked for once, so there are no iterations."""

    def programs(self, record: RunRecord) -> list[Program]:
        """A candidate's score is the probability that a pick drawn from its map seals."""
        number = (record.result or {}).get("explorllm", {}).get("affordance")
        found: list[Program] = []
        for function, purpose in PURPOSES.items():
            chosen = str(number) if function == "affordance" and number is not None else ""

            def series(index: str, name: str = function) -> tuple[str, int]:
                return name, 0

            found += programs(record, purpose, [function], series, chosen=chosen)
        return found


REPORT = ExploRLLMReport

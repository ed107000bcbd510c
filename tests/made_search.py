"""A LESR search in which the answers, their verdicts and the candidates' trainings are made up: what is asked, what
would be trained, and what is chosen of it."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from conftest import TINY, compose
from replies import reply

from llmrl.config import from_node
from llmrl.context import RunContext
from llmrl.methods.lesr import method as lesr
from llmrl.methods.lesr import search as lesr_search
from llmrl.methods.search import candidates
from llmrl.runs.files import write_json
from llmrl.runs.stop import Stop

FEATURES = 2
SMALL = ["method=lesr", "env=classic/pendulum", *TINY["td3"], "budget.env_steps=80", "eval.every=40",
         "method.search_env_steps=100", "method.search_evaluations=5", "method.search.k=2", "method.search.states=5",
         "method.search.iterations=2", "method.search.score_window=40", "method.search.score_evaluations=1",
         "log.progress=false"]  # fmt: skip


@cache
def search_config(*overrides: str) -> Any:
    """The search of `method=lesr` with these overrides, such as a preset and its environment."""
    given = {one.partition("=")[0] for one in overrides}
    return lesr.search_of(from_node(compose([*overrides, *(a for a in SMALL if a.partition("=")[0] not in given)])))


class Answers:
    """In place of the LLM: the n-th program adds n to a feature; all are accepted, as if that was known from before."""

    def __init__(self, rejected: Mapping[str, tuple[str, str]]) -> None:
        self.asked: list[tuple[str, str, list]] = []  # purpose, index, messages
        self.transcript = SimpleNamespace(events={})
        self._rejected = rejected

    def ask(self, messages: list, *, purpose: str, index: str, **options: Any) -> Any:
        self.asked.append((purpose, index, messages))
        if purpose == lesr_search.FEEDBACK:
            return reply("analysed")
        if index in self._rejected:
            name, detail = self._rejected[index]
            self.event(purpose, index, "rejected", reason=name, detail=detail)
        elif not self._checked:
            self.event(purpose, index, "accepted", features=FEATURES, ignored=[])
        code = "import numpy as np\ndef revise_state(s):\n"
        code += f"    return np.concatenate([s, [s[0] + {len(self.asked)}.0, s[1]]])\n"
        code += "def intrinsic_reward(s):\n    return s[3]\n"
        return reply(f"```python\n{code}```")

    _checked = False

    def event(self, purpose: str, index: str, kind: str, **facts: Any) -> None:
        self.transcript.events[purpose, index, kind] = {"event": kind, **facts}

    def prompts(self, purpose: str) -> list[str]:
        return [messages[-1]["content"] for found, _, messages in self.asked if found == purpose]


class Checked(Answers):
    """Nothing is known of the answers: the search checks them."""

    _checked = True


def evaluations(*returns: float, env_steps: int = 100, **more: list) -> list[dict]:
    """Rows of eval.jsonl: evenly spread, one episode each."""
    steps = np.linspace(0, env_steps, len(returns) + 1)[1:].astype(int).tolist()
    rows = [{"policy": "greedy", "env_steps": s, "returns": [r], "lengths": [10]} for s, r in zip(steps, returns)]
    return [row | {key: [values[i]] for key, values in more.items()} for i, row in enumerate(rows)]


class Search:
    """Runs at once, with some `changes` of method.search.

    `trained(name)`: of the candidate "iteration-number" (and "-seed1") the rows of its evaluations and its Lipschitz
    constants, or why its training failed.
    """

    def __init__(
        self, directory: Path, monkeypatch: Any, trained: Callable[[str], tuple[list[dict], list[float]] | str],
        *, rejected: Mapping[str, tuple[str, str]] = {}, llm: type[Answers] = Answers,  # noqa: B006
        critic: list[np.ndarray] | None = None, overrides: Sequence[str] = (), **changes: Any,
    ) -> None:  # fmt: skip
        base = search_config(*overrides)
        self.directory, self.llm = directory, llm(rejected)
        self.config = replace(base, method=replace(base.method, **changes))
        self.starts: list[list[str]] = []  # candidates that were started together

        def run_all(directories: list[Path], parallel: int, stop: Any) -> None:
            self.starts.append([place.name for place in directories])
            for place in directories:
                made = trained(place.name)
                if isinstance(made, str):
                    write_json(place / "status.json", {"status": "FAILED", "reason": made})
                    continue
                rows, constants = made
                (place / "eval.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
                facts = {"features": FEATURES, "lipschitz": constants}
                counts = {"env_steps": 100, "updates": 90, "episodes": 7}
                write_json(place / "result.json", counts | {"wrapper": facts})
                if critic is not None:
                    weights = {f"nets.0.{2 * i}.weight": torch.from_numpy(w) for i, w in enumerate(critic)}
                    weights["nets.1.0.weight"] = 100 * torch.ones(1, 5)  # the other critic, which does not count
                    torch.save({"critic": weights | {"nets.0.0.bias": torch.ones(1)}}, place / "agent.pt")
                write_json(place / "status.json", {"status": "DONE"})

        monkeypatch.setattr(candidates, "run_all", run_all)
        log = SimpleNamespace(timing=lambda row: None)
        context = RunContext(self.config, directory, Stop(), log, lambda *_: None)
        context.llm = self.llm
        self.result = lesr_search.LESRSearch().run(context)
        self.found = self.result["lesr"]
        self.events = {key[1]: facts for key, facts in self.llm.transcript.events.items() if key[2] == "trained"}

    def children(self) -> list[dict]:
        """Configurations of the candidates' trainings, in order of their names."""
        return [json.loads((place / "config.json").read_text()) for place in sorted(self.places())]

    def places(self) -> list[Path]:
        return list((self.directory / "candidates").iterdir())

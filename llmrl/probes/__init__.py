"""What `llmrl probe` has asked: a directory for each model, method and environment, below outputs/probes/.

probe.json    what was asked: method, env, llm, as they count for a run's id, and the prompts
llm.jsonl     calls and verdicts, as a run's
timing.jsonl  seconds of each call
result.json   the numbers
"""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium as gym

from llmrl.checks import ConfigError
from llmrl.config import Config, identity, method_of
from llmrl.config.identity import run_id
from llmrl.contracts.env import Role
from llmrl.contracts.probe import Question
from llmrl.llm.client import LLM
from llmrl.llm.transcript import Transcript
from llmrl.probes import asking
from llmrl.runs.files import read_json, read_jsonl, write_json, write_text, writing
from llmrl.runs.lease import Held, Lease
from llmrl.runs.log import JsonLines
from llmrl.runs.stop import Stop

HEAD = ["call", "answers", "accepted", "95 %", "s/answer", "prompt tokens", "answer tokens", "USD/answer"]
RIGHT = range(1, len(HEAD))
TABLE_HEAD = ["model", "temperature", "method", "env", *HEAD, "rejected as"]
TABLE_RIGHT = range(5, 12)


class Alive(Exception):
    """Another process asks the same."""


class Probe:
    """One model's answers to one method's questions; a context that holds its directory.

    Raises ConfigError where the method has no questions, or cannot ask them here; Alive.
    """

    def __init__(self, config: Config, stop: Stop) -> None:
        self.config, self._stop = config, stop
        name, env = config.choices["method"], config.choices["env"]
        self.questions = questions_of(config)
        whole = identity(config, ("llm", *method_of(name).reads(config.method)))
        who = {key: whole[key] for key in ("method", "env", "llm")} | {"name": name}
        who["prompts"] = run_id({q.purpose: q.messages(0, {}) for q in self.questions})  # other ones: another probe
        self.title = f"{config.llm.model}: {name} on {env}"
        folder = "-".join(part.replace("/", "-") for part in (name, env, Path(config.llm.model).name))
        self.path = Path(config.compute.outputs) / "probes" / f"{folder}-{run_id(who)}"
        self._who = {"method": name, "env": env, "model": config.llm.model, "temperature": config.llm.temperature}
        self._who |= {"identity": who}
        self._work = work_of(config)
        self.seconds: dict[tuple[str, str], float] = {}

    def __enter__(self) -> "Probe":
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            self._lease = Lease(self.path)
            try:
                self._lease.acquire()
            except Held as held:
                raise Alive(f"{held} asks this already, in {self.path}/. Wait for it, or stop it.") from None
        write_json(self.path / "probe.json", self._who)
        for row in read_jsonl(self.path / "timing.jsonl") if (self.path / "timing.jsonl").exists() else ():
            self.seconds[row["purpose"], row["index"]] = row["seconds"]
        self._timing = JsonLines(self.path / "timing.jsonl")
        self.llm = LLM(self.config.llm, Transcript(self.path / "llm.jsonl"), self._stop, self._time)
        return self

    def __exit__(self, *exc: object) -> None:
        self.llm.close()
        self._timing.close()
        self._lease.release()

    def ask(self, n: int, tell: asking.Tell) -> None:
        """Asks every question n times, as far as that was not done before. Raises what LLM.ask raises."""
        asking.ask(self.llm, self.questions, n, tell)

    def write(self) -> dict[str, Any]:
        """Writes result.json, of what was asked so far, and returns it."""
        found = self._who | asking.summary(self.llm.transcript, self.questions, self.seconds)
        served = {call["served_model"] for call in self.llm.transcript.calls.values()}
        found |= {"work": self._work, "served_models": sorted(served), "llm": self.llm.usage()}
        write_json(self.path / "result.json", found)
        return found

    def _time(self, row: dict) -> None:
        self.seconds[row["purpose"], row["index"]] = row["seconds"]
        self._timing.write(row)
        self._timing.flush()


def questions_of(config: Config) -> list[Question]:
    """What the method of `config` would ask. Raises ConfigError where its paper has no probe.py, or the environment
    does not suit it."""
    from llmrl import build

    build.set_up_torch(config)
    name = config.choices["method"]
    paper = name.partition("/")[0]
    module = f"llmrl.methods.{paper}.probe"
    if find_spec(f"llmrl.methods.{paper}") is None or find_spec(module) is None:
        raise ConfigError(f"method={name} has no prompts that can be tried alone (llmrl/methods/{paper}/probe.py)")
    suites = method_of(name).suites
    if suites and config.env.suite not in suites:
        raise ConfigError(f"method={name} is made for environments of {', '.join(suites)}, not {config.env.suite}")

    def make_env(run: Config, role: Role) -> gym.Env:
        return build.make_env(run, role)

    questions: Callable[..., list[Question]] = import_module(module).questions
    return questions(config, make_env)


def work_of(config: Config) -> str:
    """What the run trains, and what it builds on does."""
    parts = []
    for run in (*method_of(config.choices["method"]).stages(config), config):
        method = method_of(run.choices["method"])
        amount, unit = method.work(run)
        if method.trains and unit in ("env_steps", "updates"):
            parts.append(f"{amount:,} {unit} ({run.choices['method']})")
    return ", ".join(parts) or "nothing"


# --- tables -----------------------------------------------------------------------------------------------------------


def cells(purpose: str, facts: dict[str, Any]) -> list[str]:
    """A row of HEAD."""
    interval = "" if facts["low"] is None else f"{facts['low']:.2f}-{facts['high']:.2f}"
    share = "" if facts["rate"] is None else f"{facts['rate']:.2f}"
    forms = {"seconds": ",.1f", "prompt_tokens": ",.0f", "completion_tokens": ",.0f", "usd": ",.4f"}
    numbers = ["?" if facts[name] is None else format(facts[name], form) for name, form in forms.items()]
    return [purpose, f"{facts['accepted']} of {facts['answers']}", share, interval, *numbers]


def listed(reasons: dict[str, int]) -> str:
    return ", ".join(f"{name} {times}x" for name, times in reasons.items())


def kept(directory: Path) -> list[dict[str, Any]]:
    """The results below a directory, by model, method and environment."""
    found = [read_json(path) for path in _results(directory)]
    return sorted(found, key=lambda one: (one["model"], one["method"], one["env"], str(one["temperature"])))


def _results(directory: Path) -> Iterator[Path]:
    for path in sorted(directory.rglob("probe.json")):
        if (path.parent / "result.json").exists():
            yield path.parent / "result.json"


def table_rows(found: Sequence[dict[str, Any]]) -> list[list[str]]:
    """A row of TABLE_HEAD for each model and call."""
    return [
        [one["model"], str(one["temperature"]), one["method"], one["env"], *cells(purpose, facts),
         listed(facts["reasons"])]
        for one in found for purpose, facts in one["purposes"].items()
    ]  # fmt: skip


def write_table(found: Sequence[dict[str, Any]], folder: Path) -> list[Path]:
    """acceptance.md and acceptance.csv in `folder`."""
    rows = table_rows(found)
    lines = ["| " + " | ".join(row) + " |" for row in (TABLE_HEAD, ["---"] * len(TABLE_HEAD), *rows)]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([TABLE_HEAD, *rows])
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "acceptance.md", folder / "acceptance.csv"]
    for path, content in zip(paths, ("\n".join(lines) + "\n", text.getvalue()), strict=True):
        write_text(path, content)
    return paths

"""A search on disk, in outputs/<study>/tune/, and what one worker does for it.

journal.log is Optuna's: what every trial drew, and what came of it; its lock works on file systems without flock. Any
number of workers, on any number of machines, share it. A trial's runs are runs like any other, so one that was killed,
with its worker, is gone on with by the next worker that comes, from its checkpoint.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from llmrl.checks import ConfigError
from llmrl.config import from_node, identity, method_of, run_path, shared
from llmrl.hydra_compose import compose
from llmrl.objective import objective_of
from llmrl.runs.children import FAILURE, OK, TRY_LATER
from llmrl.runs.console import TrainingProgress
from llmrl.runs.files import read_json, write_json, write_text
from llmrl.runs.identity import DONE, FAILED, INTERRUPTED, RUNNING, RunDirectory
from llmrl.runs.lifecycle import REFUSED, RunResult, carry_out
from llmrl.runs.seeding import integer
from llmrl.runs.stop import Stop
from llmrl.tuning.preset import preset
from llmrl.tuning.space import Param

RUNS = "runs"  # a trial's attribute: the directories of its runs


def check_optuna() -> None:
    """Raises ConfigError where Optuna is not installed."""
    from importlib.util import find_spec

    if find_spec("optuna") is None:
        raise ConfigError('llmrl tune needs the package optuna: pip install "llmrl[tune]"')


@dataclass(frozen=True)
class Search:
    """What is searched: the same for all workers of a study."""

    folder: Path  # outputs/<study>/tune
    overrides: tuple[str, ...]
    params: tuple[Param, ...]
    seeds: tuple[int, ...]
    objective: str
    pruning: bool

    @property
    def name(self) -> str:
        """Of the preset: the study's, as far as it can be part of a file's name."""
        last = self.folder.parent.name
        return "".join(letter if letter.isalnum() or letter in "_-" else "_" for letter in last)

    @property
    def preset(self) -> Path:
        return self.folder / "conf" / "experiment" / "tuned" / f"{self.name}.yaml"

    def keep(self) -> None:
        """Writes down what is searched. Raises ConfigError where the study already searches something else."""
        spaces = {p.key: [p.space, *(p.choices or (p.low, p.high))] for p in self.params}
        own = {"overrides": list(self.overrides), "seeds": list(self.seeds), "objective": self.objective,
               "pruning": self.pruning, "params": spaces}  # fmt: skip
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / "tune.json"
        if not file.exists():
            write_json(file, own)
        elif (known := read_json(file)) != own:
            other = [key for key in own if known.get(key) != own[key]]
            raise ConfigError(f"{file} holds a search with other {', '.join(other)}: give this one another study=…")


class Worker:
    """Carries out trials until the study has `trials` of them."""

    def __init__(self, search: Search, trials: int) -> None:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.optuna, self.search, self.trials = optuna, search, trials
        journal = str((search.folder / "journal.log").absolute())
        pruner = optuna.pruners.MedianPruner() if search.pruning else optuna.pruners.NopPruner()
        self.study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(journal, JournalFileOpenLock(journal))), study_name="llmrl",
            direction="maximize", load_if_exists=True, pruner=pruner,
        )  # fmt: skip
        self._counting = JournalFileOpenLock(f"{journal}.count")
        self._elsewhere: set[int] = set()  # trials that other workers are at

    def work(self) -> int:
        """The exit code: 0 | 1 a trial failed | 75 try again later | 128 + n stopped by signal n."""
        while (trial := self._left() or self._new()) is not None:
            code = self._carry_out(trial)
            if code != OK:
                return code
        failed = [trial.number for trial in self._all() if trial.state.name == "FAIL"]
        return FAILURE if failed else OK

    # --- which trial ----------------------------------------------------------------------------------------------

    def _all(self) -> Sequence[Any]:
        return self.study.get_trials(deepcopy=False)

    def _left(self) -> Any:
        """A trial that a worker has left behind; None where there is none."""
        for trial in self._all():
            runs = [RunDirectory(Path(path)) for path in trial.user_attrs.get(RUNS, ())]
            mine = trial.state.name == "RUNNING" and trial.number not in self._elsewhere
            if mine and not any(run.alive() for run in runs):
                return self.optuna.trial.Trial(self.study, trial._trial_id)
        return None

    def _new(self) -> Any:
        """The next trial; None where there are enough."""
        with locked(self._counting):
            if len(self._all()) >= self.trials:
                return None
            return self.study.ask()

    # --- a trial --------------------------------------------------------------------------------------------------

    def _carry_out(self, trial: Any) -> int:
        """A run for each seed; their mean is the trial's value. The exit code, where it ends the worker."""
        # drawn from the trial's number, so that neither a resume nor another worker draws the same again
        self.study.sampler = self.optuna.samplers.TPESampler(seed=integer(0, "tune", trial.number))
        drawn = [param.suggest(trial) for param in self.search.params]
        values: list[float] = []
        for seed in self.search.seeds:
            ended, pruned = self._run(trial, [*self.search.overrides, *drawn, f"seed={seed}"], values)
            if pruned:
                return self._tell(trial, drawn, "PRUNED")
            if ended.status == RUNNING:  # another worker was quicker
                self._elsewhere.add(trial.number)
                return OK
            if ended.status in (FAILED, REFUSED) and ended.code < TRY_LATER:
                return self._tell(trial, drawn, "FAIL", why=ended.message)
            if ended.status != DONE:  # it stays as it is, and the same command goes on with it
                return ended.code
            assert ended.path is not None
            value = objective_of(ended.path, self.search.objective)
            if value is None:
                raise ConfigError(f"objective={self.search.objective}: {ended.path} has no such number")
            values.append(value)
        return self._tell(trial, drawn, "COMPLETE", value=sum(values) / len(values))

    def _run(self, trial: Any, texts: list[str], before: Sequence[float]) -> tuple[RunResult, bool]:
        """One run, and whether it was pruned. `before`: the values of the trial's earlier seeds."""
        node, stop = compose(texts), Stop()
        node.pop("rerun", None)
        config = shared(from_node(node, texts))
        path = run_path(config, identity(config, method_of(config.choices["method"]).reads(config.method)))
        runs = [*trial.user_attrs.get(RUNS, ())]
        if str(path) not in runs:
            trial.set_user_attr(RUNS, [*runs, str(path)])
        curve = _Curve(trial, path, self.search.objective, before, stop)
        ended = carry_out(node, texts, stop=stop, tell=curve.tell, progress=partial(_Watched, curve))
        return ended, curve.pruned and ended.status == INTERRUPTED

    def _tell(self, trial: Any, drawn: Sequence[str], state: str, value: float | None = None, why: str = "") -> int:
        """Notes what came of a trial, and keeps the best one as a preset."""
        states = self.optuna.trial.TrialState
        self.study.tell(trial, value, states[state], skip_if_finished=True)
        what = {"COMPLETE": f"{value}", "PRUNED": "pruned", "FAIL": f"failed. {why}"}[state]
        best = self.best()
        say(f"trial {trial.number}: {' '.join(drawn)}: {what}"
            + (f" (best: {best.value:.6g}, trial {best.number})" if best else ""))  # fmt: skip
        if best is not None:
            self._keep(best)
        return OK

    # --- what came of it ------------------------------------------------------------------------------------------

    def best(self) -> Any:
        """The best trial so far; None where none is complete."""
        complete = [trial for trial in self._all() if trial.state.name == "COMPLETE"]
        return max(complete, key=lambda trial: trial.value, default=None)

    def _keep(self, best: Any) -> None:
        search = self.search
        drawn = [f"{param.key}={param.written(best.params[param.key])}" for param in search.params]
        seeds = ",".join(map(str, search.seeds))
        about = (f"The best of {len(self._all())} trials of llmrl tune {' '.join(search.overrides)}: {best.value:.6g}"
                 f" ({search.objective}; seed={seeds}, on which it was chosen: report it on others).")  # fmt: skip
        search.preset.parent.mkdir(parents=True, exist_ok=True)
        write_text(search.preset, preset([*search.overrides, *drawn], about))


class _Curve:
    """The learning curve of one run of a trial, while it trains: a run that is worse than most at the same point is
    stopped, with a checkpoint."""

    def __init__(self, trial: Any, run: Path, objective: str, before: Sequence[float], stop: Stop) -> None:
        self.trial, self.run, self.objective, self.before, self.stop = trial, run, objective, before, stop
        self.pruned = False

    def evaluated(self, at: int, length: int) -> None:
        """After an evaluation at `at` of `length` env_steps (updates)."""
        value = objective_of(self.run, self.objective)
        if value is None or at >= length:
            return
        mean = (sum(self.before) + value) / (len(self.before) + 1)
        step = len(self.before) * length + at
        if step not in self.trial.storage.get_trial(self.trial._trial_id).intermediate_values:  # a resume was here
            self.trial.report(mean, step)
        if self.trial.should_prune():
            self.pruned = True
            self.stop.ask()

    def tell(self, text: str) -> None:
        """Passes on what a run says, but for the stop that we asked for."""
        if not self.pruned:
            say(text)


class _Watched(TrainingProgress):
    """The display of a run, which sees its evaluations."""

    def __init__(self, curve: _Curve, length: int, unit: str = "env_steps", **options: Any) -> None:
        super().__init__(length, unit, **options)
        self._curve = curve

    def __call__(self, clock: Any, facts: dict[str, Any]) -> None:
        evaluated = "eval" in facts
        super().__call__(clock, facts)
        if evaluated:
            self._curve.evaluated(getattr(clock, self._unit), self._total)


@contextmanager
def locked(lock: Any) -> Iterator[None]:
    """Holds one of Optuna's locks of a file."""
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def say(text: str) -> None:
    print(f"{text}\n", end="", file=sys.stderr, flush=True)  # in one piece: other workers write as well

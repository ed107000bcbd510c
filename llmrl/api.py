"""llmrl as a library: `from llmrl import api`. docs/api.md shows every function at work.

Importing it is cheap: torch, gymnasium and the environments are imported by what needs them. Importing it also sets
OPENBLAS_NUM_THREADS=1 where nothing else is set, as the command line does.
"""

import itertools
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy is loaded; torch's threads are compute.threads

from llmrl.checks import ConfigError
from llmrl.runs.children import BAD_INPUT
from llmrl.runs.lifecycle import End, RunResult, carry_out
from llmrl.runs.stacked import carry_out_together, groups_of, refusals
from llmrl.runs.stop import Stop

if TYPE_CHECKING:
    import gymnasium as gym

    from llmrl.contracts.env import Role
    from llmrl.loaded import Loaded
    from llmrl.report.store.listing import Run, Runs

__all__ = ["ConfigError", "RunResult", "Stop", "load", "make_env", "register", "run", "runs", "sweep"]

_STOPPED = 128  # from here on: by a signal, or by Stop.ask


def _logger() -> logging.Logger:
    """The logger "llmrl"; Hydra's command line, where it ran in this process, has disabled those that were there."""
    logger = logging.getLogger("llmrl")
    logger.disabled = False
    return logger


def run(overrides: Sequence[str] = (), *, stop: Stop | None = None) -> RunResult:
    """Carries out the run that `llmrl run <overrides>` would: trains, goes on where it was interrupted, and returns at
    once where it is finished.

    It works in the main thread, where SIGINT, SIGTERM, SIGUSR2 and SIGHUP end it with a checkpoint, in other threads,
    also several at once, and in a notebook. torch's threads are set to compute.threads.

    Args:
        overrides: as on the command line, ["agent=td3", "env=mujoco/hopper", "seed=3"]; the quickstart where empty.
        stop: `stop.ask()`, from any thread, ends the run with a checkpoint; the same call goes on with it.

    Returns:
        How it ended: DONE with its result, or INTERRUPTED, PAUSED, FAILED or RUNNING (elsewhere) with a message,
        which is logged (logger "llmrl"), as are the other messages of `llmrl run`.

    Raises:
        ConfigError: the configuration is invalid, or an LLM's server refuses it for good (exit code 2 of `llmrl run`).
        KeyboardInterrupt: ctrl-C was pressed a second time.
    """
    node, texts = _composed(overrides)
    ended = carry_out(node, texts, stop=stop, tell=_remark)
    if ended.code == BAD_INPUT:
        raise ConfigError(ended.message)
    return _logged(ended)


def sweep(
    overrides: Sequence[str] = (),
    axes: Mapping[str, Iterable[Any]] | None = None,
    /,
    *,
    stop: Stop | None = None,
    **more_axes: Iterable[Any],
) -> list[RunResult]:
    """Carries out a run for each combination of the axes' values, one after the other, the last axis fastest; with
    `compute.stack=true` those that differ in their seeds alone side by side.

    All of them are composed and checked before the first one begins. One that fails does not end the sweep; one that is
    stopped does.

    Args:
        overrides: what all runs share.
        axes: {key: its values}, for keys with dots: {"agent.gamma": [0.9, 0.99]}.
        stop: as in `run`.
        more_axes: the same as keywords: seed=range(3), agent=["td3", "sac"].

    Returns:
        How each ended, in their order; shorter where the sweep was stopped. A configuration that turned out to be
        invalid when its run began has the status REFUSED.

    Raises:
        ConfigError: configurations are invalid: all that is wrong, each with its overrides. Nothing was run.
        KeyboardInterrupt: ctrl-C was pressed a second time.
    """
    from llmrl.config import from_node

    jobs, wrong = [], []
    for point in _product(dict(axes or {}) | more_axes):
        try:
            node, texts = _composed([*_texts(overrides), *point])
            from_node({key: value for key, value in node.items() if key != "rerun"}, texts)
            jobs.append((node, texts))
        except ConfigError as error:
            wrong.append(f"{error}\n(of the sweep: {' '.join(point)})")
    if wrong := wrong or refusals(jobs):
        raise ConfigError("\n".join(wrong))
    ended: dict[int, RunResult] = {}
    for group in groups_of(jobs):
        if len(group) == 1:
            ends = [carry_out(*jobs[group[0]], stop=stop, tell=_remark)]
        else:
            ends = carry_out_together([jobs[i] for i in group], _remark, stop)
        ended |= zip(group, map(_logged, ends))
        if any(one.code >= _STOPPED for one in ends):
            break
    return [ended[i] for i in sorted(ended)]


def runs(folder: str | Path | None = None) -> "Runs":
    """What is on disk.

    Args:
        folder: runs at and below it: outputs/, outputs/<study>/, a run's own; outputs/ where None.

    Returns:
        A sequence of `Run` in order of their paths, with `to_frame()` and `evaluations()` for pandas. Replaced runs,
        artifacts and what lies inside of a run are not counted. A damaged run has the status DAMAGED, and no numbers.

    Raises:
        ConfigError: there is no such directory.
    """
    from llmrl.report.store.listing import Runs, runs_at

    if folder is None and not Path("outputs").exists():
        return Runs(())
    return runs_at(Path("outputs" if folder is None else folder).expanduser())


def load(run: "str | Path | RunResult | Run") -> "Loaded":
    """A trained agent, with the environment that it was trained in.

    Args:
        run: a run's directory, or what `run`, `sweep` or `runs` returned of it.

    Returns:
        `act(obs)`, `play(episodes, seed)`, `env()`, `agent`, `config` of it; see `Loaded`.

    Raises:
        ConfigError: there is no run, it has no trained agent, or its environment cannot be made here.
    """
    from llmrl.loaded import Loaded

    path = run if isinstance(run, str | Path) else run.path
    if path is None:
        raise ConfigError("load: this run has no directory: its configuration was refused")
    return Loaded(Path(path).expanduser())


def make_env(name: str, *, role: "Role" = "train", render: bool = False, **overrides: Any) -> "gym.Env":
    """An environment with the settings that runs with `env=<name>` have.

    Args:
        name: one of `llmrl list env`, such as "pick_place/short_horizon".
        role: "eval" leaves out what holds for learning only (clipped rewards, ends at lost lives).
        render: whether `env.render()` returns images, uint8 (height, width, 3).
        overrides: keys of conf/env/<suite>/ with their values, such as mode="analytic".

    Returns:
        A new environment. Its `reset(seed=s)` begins an episode that s and the actions determine.

    Raises:
        ConfigError: there is no such environment or key, a value is wrong, or something is not installed.
    """
    from llmrl import build
    from llmrl.config import from_node

    own = [_override(f"env.{key}", value) for key, value in overrides.items()]
    node, texts = _composed([_override("env", name), *own])
    return build.make_env(from_node(node, texts), role, render=render)


def register(
    kind: Literal["method", "agent", "env"], name: str, module_or_class: Any, config: Mapping[str, Any]
) -> None:
    """Makes a class a choice, `<kind>=<name>`, as a module and a yaml file would. It is checked in the same way.

    It lives in this process. What runs in processes of its own does not know it, and is refused: searches, evaluation
    workers (eval.workers), `llmrl` commands. Runs are told apart by values, not by code: after a change of the class,
    `rerun=true` or another `study=` makes a run anew.

    Args:
        kind: what it is.
        name: letters, digits and _; "<suite>/<task>", or one name for both, for an env.
        module_or_class: a class that derives from llmrl.contracts.method.Method or llmrl.contracts.agent.Agent and has
            its frozen dataclass of keys as the attribute `Config`; for an env a class with `Config` and a static
            `make(config, role, *, render=False)`, see llmrl.contracts.env. Or a module that holds these.
        config: the keys' values, as in a yaml. `{"defaults": ["dqn", "_self_"], …}` takes those of agent=dqn over. An
            env's `suite` and `task` may be left out.

    Raises:
        ConfigError: the class lacks something, or the name is taken by another one.
    """
    from llmrl.config.registering import register

    register(kind, name, module_or_class, config)


def _composed(overrides: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    from llmrl.hydra_compose import compose

    texts = _texts(overrides) or ["experiment=quickstart"]
    return compose(texts), texts


def _texts(overrides: Sequence[str]) -> list[str]:
    """Raises ConfigError for what is no list of texts."""
    texts = [overrides] if isinstance(overrides, str) else list(overrides)
    if isinstance(overrides, str) or not all(isinstance(text, str) for text in texts):
        raise ConfigError(f'overrides: a list of texts, such as ["agent=td3", "seed=3"], not {overrides!r}')
    return texts


def _product(axes: Mapping[str, Iterable[Any]]) -> Iterable[tuple[str, ...]]:
    """Every combination, as overrides."""
    for key, values in axes.items():
        if isinstance(values, str) or not isinstance(values, Iterable):
            raise ConfigError(f"sweep: {key} needs a list of values, not {values!r}")
    return itertools.product(*([_override(key, value) for value in values] for key, values in axes.items()))


def _override(key: str, value: Any) -> str:
    return f"{key}={_written(value)}"


def _written(value: Any) -> str:
    """A value of Python in the grammar of overrides. Raises ConfigError where it has none."""
    from hydra.core.override_parser.types import Quote, QuotedString

    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case str() | Path():
            return QuotedString(str(value), Quote.single).with_quotes()
        case int():
            return repr(int(value))
        case float():  # numpy's too
            return repr(float(value))
        case list() | tuple():
            return f"[{','.join(map(_written, value))}]"
        case dict():
            return f"{{{','.join(f'{_written(k)}:{_written(v)}' for k, v in value.items())}}}"
    if callable(item := getattr(value, "item", None)):  # of numpy's numbers
        return _written(item())
    raise ConfigError(f"a {type(value).__name__} is no value of an override: {value!r}")


def _remark(text: str) -> None:
    """Logs a message that is not the result's."""
    if not isinstance(text, End):
        _logger().warning("%s", text)


def _logged(ended: RunResult) -> RunResult:
    if ended.message:
        _logger().warning("%s", ended.message)
    return ended

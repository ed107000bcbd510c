"""llmrl check [group=choice] [key=value] …

Tries in some seconds whether `llmrl run` with the same words would work, and leaves nothing behind: composes, builds,
plays 20 environment steps, makes one update at batch size 32, evaluates (episodes of at most 100 steps), stops, writes
a checkpoint and goes on from it. A scripted LLM stands in, so nothing is asked and nothing paid; that a key is there is
checked all the same. Without any word it checks experiment=quickstart, as `llmrl run` would run it.
"""

import dataclasses
import re
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmrl.context import RunContext
    from llmrl.runs.stop import Stop

ENV_STEPS, BATCH_SIZE, EVALUATION_STEPS = 20, 32, 100
REPLAY_SIZE = 1000


def main(args: list[str]) -> int:
    args = args or ["experiment=quickstart"]
    if flags := [arg for arg in args if arg.startswith("-")]:
        return _say(f"llmrl check: takes overrides (key=value) of one run, and no flags such as {flags[0]}.", 2)
    from llmrl.checks import ConfigError
    from llmrl.hydra_compose import compose

    try:
        for line in check(compose(args), args):
            print(f"  ok  {line}", flush=True)
    except ConfigError as error:
        return _say(str(error), 2)
    except Exception as error:  # noqa: BLE001 (a fault of agent, environment or method: that is what is looked for)
        traceback.print_exc()
        return _say(f"The check failed, and so would the run. {type(error).__name__}: {error}", 1)
    print(f"llmrl run {' '.join(args)}\nwould start.")
    return 0


def check(node: dict[str, Any], overrides: list[str]) -> Any:
    """Yields a line per thing that works. Raises ConfigError for what was asked wrongly, anything else as it comes."""
    from llmrl import build
    from llmrl.config import from_node, identity, method_of, run_path
    from llmrl.llm import client

    node.pop("rerun", None)
    config = from_node(node, overrides)
    names = config.choices
    method = method_of(names["method"])()
    path = run_path(config, identity(config, method.reads(config.method)))
    build.set_up_torch(config)
    yield f"composed: {names['method']} · {names['agent']} · {names['env']} · {config.budget.env_steps:,} env_steps"
    if "llm" in method.reads(config.method):
        client.preflight(config.llm)
        yield f"llm={names['llm']}: {_llm(config.llm)}"
    with tempfile.TemporaryDirectory(prefix="llmrl-check-") as folder, _stages_here():
        small = _small(config, folder)
        yield from _rehearse(method, small, Path(folder) / "run")
        yield f"arrays: {_arrays(small)}"
    yield f"the run's directory: {path}/{' (exists)' if path.exists() else ''}"


def _llm(config: Any) -> str:
    if config.replay is not None:
        return f"the recording {config.replay} is there"
    if config.kind == "scripted":
        return "no language model, answers by rule"
    key = f"the key in {config.key_env} is set" if config.key_env else "needs no key"
    return f"{config.model}, {key}; it was not called, a scripted LLM stood in"


def _arrays(config: Any) -> str:
    """Which arrays the environment changes in place, as some random steps show. No harm is done here, but elsewhere."""
    import pickle

    from llmrl.config import module_of

    env = module_of("env", config.env.suite).make(config.env, "train")
    env.action_space.seed(0)
    changed, over = [], True
    for _ in range(ENV_STEPS):
        if over:
            obs, _ = env.reset(seed=0)
        action = env.action_space.sample()
        arrays = {"the observation that it returned": obs, "the action that it is given": action}
        before = {name: pickle.dumps(array) for name, array in arrays.items()}
        obs, _, terminated, truncated, _ = env.step(action)
        changed += [name for name in arrays if pickle.dumps(arrays[name]) != before[name] and name not in changed]
        over = terminated or truncated
    env.close()
    if not changed:
        return "the environment leaves the observations that it returned, and the actions, as they are"
    return (
        f"the environment changes {' and '.join(changed)} in place. llmrl copies both, so nothing is wrong here; other "
        "libraries may store the changed ones"
    )


@contextmanager
def _stages_here() -> Iterator[None]:
    from llmrl.runs import children

    before, children.default = children.default, InProcess
    try:
        yield
    finally:
        children.default = before


class InProcess:
    """What a run builds on is made in this process, one after the other: a process of its own would take longer to
    import than such a small stage takes."""

    @dataclasses.dataclass
    class Ended:
        code: int

        def done(self) -> bool:
            return True

        def tell(self, stop: "Stop") -> None:
            stop.wake()

        def cancel(self) -> None:
            """Nothing is under way any more."""

        def wait(self) -> int:
            return self.code

    def submit(self, directory: Path) -> Ended:
        from llmrl.run import main

        with (directory / "said.txt").open("w") as said, redirect_stdout(said), redirect_stderr(said):
            return self.Ended(main(["--from", str(directory)]))


def _rehearse(method: Any, config: Any, directory: Path) -> Any:
    """The method's own `run` in `directory`: a training three times, stopped, stopped again at once, and let go
    to its end; anything else once."""
    from llmrl.runs.stop import Stopped

    makes_artifact = method.artifact is not None  # and trains, if at all, in runs of its own
    if makes_artifact or not method.trains:
        ctx = _context(config, directory, [], None)
        result = method.run(ctx)
        ctx.log.close()
        if makes_artifact and "llm" not in method.reads(config.method):
            yield f"made: {method.artifact}"
        elif makes_artifact:
            yield f"searched: {result['env_steps']} env_steps, {ctx.llm.usage()['calls']} calls of the scripted LLM"
        else:
            yield f"evaluated: {last_return(directory)}; nothing is trained"
        return
    saved: list[dict] = []
    for stop_at in (config.budget.length, 0):
        ctx = _context(config, directory, saved, stop_at)
        try:
            method.run(ctx)
            raise RuntimeError(f"the method did not stop when asked to, at {stop_at} {config.budget.unit}")
        except Stopped:
            ctx.log.close()
        if stop_at:
            env = ctx.env("eval")
            yield f"built: observations {_shown(env.observation_space)}, actions {_shown(env.action_space)}"
            env.close()
    if different := difference(saved[0], saved[1]):
        raise RuntimeError(f"a run that goes on from its checkpoint is not the same: {different} differs")
    ctx = _context(config, directory, saved, None)
    result = method.run(ctx)
    ctx.log.close()
    if "llm" in method.reads(config.method):
        yield f"scripted LLM: {ctx.llm.usage()['calls']} calls"
    updates = f"{result['updates']} update{'s' * (result['updates'] != 1)}"
    yield f"trained: {result['env_steps']} env_steps, {updates} at batch size {BATCH_SIZE}"
    yield f"evaluated: {last_return(directory)}"
    yield "checkpoint: written, read back, equal"


def _shown(space: Any) -> str:
    """A space, without the bounds of each of its dimensions."""
    return re.sub(r"\[[-+.\d\s\[\]einfa]*\]", "[…]", str(space))


def _small(config: Any, outputs: str) -> Any:
    """The same run with the smallest numbers that still touch everything: one update, on the last step."""
    from llmrl.config import method_of

    n_envs = getattr(config.agent, "n_envs", 1)
    env_steps = -(-ENV_STEPS // n_envs) * n_envs  # offline: updates
    agent = {
        "batch_size": BATCH_SIZE, "replay_size": REPLAY_SIZE + n_envs, "random_steps": env_steps // 2,
        "learning_starts": env_steps - 1, "updates_per_env_step": 1.0, "n_steps": env_steps // n_envs,
    }  # fmt: skip
    known = {field.name for field in dataclasses.fields(config.agent)}
    scripted = {"kind": "scripted", "model": "scripted", "replay": None, "key_env": None, "api_base": None}
    method = method_of(config.choices["method"])
    return dataclasses.replace(
        config,
        method=method.small(config.method, env_steps),
        env=method.small_env(config.env),
        agent=dataclasses.replace(config.agent, **{k: v for k, v in agent.items() if k in known}),
        budget=dataclasses.replace(config.budget, **{config.budget.unit: env_steps}),
        eval=dataclasses.replace(
            config.eval, every=env_steps, episodes=1, max_steps=EVALUATION_STEPS, set_episodes=1
        ),  # fmt: skip
        log=dataclasses.replace(config.log, every=env_steps, progress=False, wandb="off"),
        llm=dataclasses.replace(config.llm, **scripted),
        compute=dataclasses.replace(config.compute, outputs=outputs),
    )


def _context(config: Any, directory: Path, saved: list[dict], stop_at: int | None) -> "RunContext":
    """A RunContext with short training episodes (a method may do something between them), which is asked to stop at
    `stop_at` env_steps (offline: updates) and notes in `saved` what every checkpoint was made of."""
    import copy

    from gymnasium.wrappers import TimeLimit

    from llmrl.context import RunContext
    from llmrl.runs.checkpoint import Checkpoints
    from llmrl.runs.log import RunLog
    from llmrl.runs.stop import Stop

    directory.mkdir(exist_ok=True)
    half = max(1, config.budget.length // getattr(config.agent, "n_envs", 1) // 2)  # two episodes per environment
    stop = Stop()
    if stop_at == 0:
        stop.ask()

    def report(clock: Any, facts: dict) -> None:
        if stop_at and getattr(clock, config.budget.unit) >= stop_at:
            stop.ask()

    class Context(RunContext):
        def env(self, role: Any, wrapper: Any = None) -> Any:
            env = super().env(role, wrapper)
            return TimeLimit(env, half) if role == "train" else env

    class Witness(Checkpoints):
        def save(self, state: dict, buffer: Any, offsets: dict[str, int]) -> None:
            super().save(state, buffer, offsets)
            rows = {name: ring.rows(ring.oldest, ring.total) for name, ring in buffer.rings().items()}
            saved.append(copy.deepcopy({"state": state, "replay_buffer": buffer.state_dict(), "rows": rows}))

    ctx = Context(config, directory, stop, RunLog(directory), report)
    ctx.checkpoints = Witness(directory / "checkpoint")
    return ctx


def difference(a: Any, b: Any, name: str = "state") -> str:
    """The name of the first part in which two states differ, such as state.agent.updates; empty where there is none."""
    import numpy as np
    import torch

    if type(a) is not type(b):
        return name
    if dataclasses.is_dataclass(a):
        a, b = vars(a), vars(b)
    if isinstance(a, list | tuple):
        a, b = dict(enumerate(a)), dict(enumerate(b))
    if not isinstance(a, dict):
        same = torch.equal(a.cpu(), b.cpu()) if isinstance(a, torch.Tensor) else np.array_equal(a, b)
        return "" if same else name
    if a.keys() != b.keys():
        return name
    return next((found for key in a if (found := difference(a[key], b[key], f"{name}.{key}"))), "")


def last_return(directory: Path) -> str:
    """What the last evaluation came to on the task's own cases, in words."""
    from llmrl.runs.files import read_jsonl

    rows = [row for row in read_jsonl(directory / "eval.jsonl") if row["policy"] == "greedy"]
    return f"return {rows[-1]['return_mean']:.3f} in at most {EVALUATION_STEPS} env_steps"


def _say(text: str, code: int) -> int:
    print(text, file=sys.stderr)
    return code

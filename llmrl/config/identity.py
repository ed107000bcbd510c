"""What makes two commands the same run: its identity, its id, its directory; and the runs that others share."""

import dataclasses
import json
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

from llmrl.checks import ConfigError
from llmrl.config.plugins import config_of, method_of
from llmrl.config.schema import Config, Eval


def identity(config: Config, reads: Iterable[str] = ()) -> dict[str, Any]:
    """All that can change a result of the run, and nothing else; `reads` is what the method reads beside the training
    itself ("llm", "env.task"). Two commands with equal identities are the same run."""
    parts = {group: _identity_of(getattr(config, group)) for group in ("method", "agent", "env", "eval")}
    if "env.task" not in reads:
        parts["env"].pop("task", None)
    elif "env.task.observation" not in reads:
        parts["env"]["task"].pop("observation", None)
    if "llm" in reads:
        parts["llm"] = _identity_of(config.llm)
    names = {"method": config.choices["method"], "agent": config.choices["agent"]}
    if config.wrapper is not None:
        parts["wrapper"], names["wrapper"] = _identity_of(config.wrapper), config.choices["wrapper"]
    device = config.compute.device.partition(":")[0]
    parts |= {"name": names, config.budget.unit: config.budget.length, "seed": config.seed, "device": device}
    return json.loads(json.dumps(parts))  # as identity.json reads back: a tuple is a list


def _identity_of(value: Any) -> Any:
    """A dataclass as plain values, without what its fields declare not to matter. A field added later declares the
    `neutral` value at which it is left out, so that old ids stay. `identity`: a function says what counts of the whole
    dataclass."""
    if not dataclasses.is_dataclass(value):
        return value
    result = {}
    for f in dataclasses.fields(value):
        mark, inner = f.metadata.get("identity", True), getattr(value, f.name)
        if callable(mark):
            inner = mark(value)
        if mark is False or ("neutral" in f.metadata and inner == f.metadata["neutral"]):
            continue
        result[f.name] = _content(f, inner) if mark == "content" else _identity_of(inner)
    return result


def _content(field: dataclasses.Field, path: str | None) -> str | None:
    """A path counts by the content of what it names. The field's metadata says its `key`, for the message, and which
    `file` matters where the path is a directory; all of them where it says none."""
    if path is None:
        return None
    place = Path(path)
    if place.is_dir() and "file" not in field.metadata:
        files = sorted(file for file in place.rglob("*") if file.is_file())
        return sha256(b"".join(str(f.relative_to(place)).encode() + b"\0" + f.read_bytes() for f in files)).hexdigest()
    file = file_of(field, path)
    if not file.exists():
        raise ConfigError(f"{field.metadata.get('key', field.name)}: {file} does not exist")
    return sha256(file.read_bytes()).hexdigest()


def file_of(field: dataclasses.Field, path: str) -> Path:
    """The file that a path means: itself, or in a directory the one of the name that the field's metadata gives."""
    return Path(path) / field.metadata["file"] if Path(path).is_dir() else Path(path)


def run_id(identity: dict[str, Any]) -> str:
    return sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]


def run_path(config: Config, identity: dict[str, Any]) -> Path:
    """outputs/<study>/<method>-<agent>/<env>/s<seed>-<id>; outputs/artifacts/<kind>/<id> where others build on it."""
    if kind := method_of(config.choices["method"]).artifact:
        return Path(config.compute.outputs) / "artifacts" / kind / run_id(identity)
    env = config.choices["env"].replace("/", "-")
    return Path(config.compute.outputs) / config.study / config.name / env / f"s{config.seed}-{run_id(identity)}"


# --- runs that others build on ----------------------------------------------------------------------------------------


def shared(config: Config) -> Config:
    """A run as it is; of those that others build on, the one that all of them share, so that who makes it by hand makes
    just that. Raises ConfigError where it is of another environment."""
    return method_of(config.choices["method"]).shared(config)


def without_training(config: Config, name: str, method: Any, env: Any, seed: int) -> Config:
    """The run of a method that neither trains an agent nor evaluates one, but makes what others build on: the same for
    every agent, evaluation, budget and seed of theirs."""
    return dataclasses.replace(
        config,
        method=method,
        agent=config_of("agent", "fixed")(probabilities=None, n_envs=1),
        env=env,
        wrapper=None,
        eval=Eval(every=1, episodes=1, max_steps=1, epsilon=0.0, seed=0, workers=1, sets=(), sets_at="end",
                  set_episodes=None),
        budget=dataclasses.replace(config.budget, env_steps=1, paper_updates=None, updates=None),
        seed=seed,
        choices={"method": name, "agent": "fixed", "env": config.choices["env"], "llm": config.choices["llm"]},
    )  # fmt: skip

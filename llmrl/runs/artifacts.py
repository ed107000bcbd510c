"""What a run builds on: other runs, which make it once for all, and files. Their content is noted, so that a run that
goes on goes on with the same."""

import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from llmrl.checks import ConfigError
from llmrl.config import Config, identity, method_of, run_path
from llmrl.runs.children import BAD_INPUT, CODES, ChildEnded, prepare, run_all
from llmrl.runs.files import read_json, remove_empty, topmost_missing, write_bytes, write_json
from llmrl.runs.identity import DONE, PAUSED, RUNNING, WAITING
from llmrl.runs.stop import Paused, Stop


def artifact(config: Config, product: str, noted: Path, stop: Stop, status: Callable[..., None]) -> Path:
    """The directory of the finished run of `config`, which makes what the run around `noted` builds on: runs it, or
    waits for whoever does. Notes its file `product`; where an LLM made it, its transcript is the other run's too.

    Raises ConfigError where it is asked for wrongly or its product has changed, Paused where its LLM cannot be reached,
    ChildEnded where it failed or was killed.
    """
    reads = method_of(config.choices["method"]).reads(config.method)
    directory = run_path(config, identity(config, reads))
    above = topmost_missing(directory)
    prepare(directory, config)
    status(WAITING, waiting_for=str(directory))
    (outcome,) = run_all([directory], 1, stop)
    if outcome.status == PAUSED or outcome.code == CODES[PAUSED]:
        raise Paused(f"{directory}: {outcome.reason}")
    if outcome.status != DONE:
        if outcome.code != BAD_INPUT:
            raise ChildEnded(f"What this run builds on failed: {directory}: {outcome.reason}", outcome.code)
        if above is not None and not (directory / "llm.jsonl").exists():  # nothing was asked or made
            shutil.rmtree(directory)
            remove_empty(above)
        raise ConfigError(f"What this run builds on cannot be made: {outcome.reason}")
    status(RUNNING)
    note(directory / product, noted)
    asked, own = directory / "llm.jsonl", noted.with_name("llm.jsonl")
    if asked.exists() and not own.exists():  # a run shows what made it, and can be replayed from
        write_bytes(own, asked.read_bytes())
    return directory


def note(file: Path, noted: Path) -> None:
    """Writes the hash of `file` to `noted`. Raises ConfigError where another one stands there."""
    now = {"path": str(file), "sha256": sha256(file.read_bytes()).hexdigest()}
    if noted.exists() and read_json(noted)["sha256"] != now["sha256"]:
        raise ConfigError(
            f"{file} is not what this run began with ({noted} holds its hash): restore it, or use rerun=true"
        )
    write_json(noted, now)

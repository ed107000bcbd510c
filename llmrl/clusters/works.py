"""From composed nodes to what is submitted: checked, with their places, and what they build on before them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llmrl.checks import ConfigError
from llmrl.clusters.submit import Work
from llmrl.config import Config, from_node, identity, method_of, run_path, shared
from llmrl.runs.children import node_of
from llmrl.runs.identity import DONE, RunDirectory
from llmrl.runs.stacked import groups_of


def works_of(jobs: Iterable[tuple[Mapping[str, Any], Sequence[str]]]) -> list[Work]:
    """The runs of a sweep, (node, overrides) each, and what they build on. Raises ConfigError."""
    found: dict[Any, Work] = {}
    for node, overrides in jobs:
        if node.get("rerun"):
            raise ConfigError("rerun=true: is for runs on this machine; set the old run aside, then submit")
        own = {key: value for key, value in node.items() if key != "rerun"}
        config = shared(from_node(own, overrides))
        for work in [*stages_of(config), _work(config, own)]:
            found.setdefault(work.path, work)
    return list(found.values())


def stages_of(config: Config) -> list[Work]:
    """What a run builds on, in the order in which it is made."""
    return [_work(stage, node_of(stage)) for stage in method_of(config.choices["method"]).stages(config)]


def _work(config: Config, node: Mapping[str, Any]) -> Work:
    method = method_of(config.choices["method"])
    who = identity(config, method.reads(config.method))
    after = tuple(_work(stage, {}).path for stage in method.stages(config))
    return Work(run_path(config, who), node, who, after, method.artifact is not None)


def check_unstacked(works: Iterable[Work]) -> None:
    """Raises ConfigError where seeds ask to share a process (compute.stack): what is submitted has processes of its
    own, and would do so unnoticed."""
    if any(len(group) > 1 for group in groups_of([(dict(work.node), []) for work in works])):
        raise ConfigError(
            "compute.stack=true: runs in a queue, or side by side, have a process each. Leave it out, or sweep on this "
            "machine without hydra/launcher; hydra.launcher.runs_per_task carries out several runs in one task"
        )


def check_llms(works: Iterable[Work]) -> None:
    """Raises ConfigError where a key or a model is missing here: jobs would find it out after hours in a queue. Of runs
    that are done nothing is needed any more."""
    from llmrl.llm import client

    asked = {}
    for work in works:
        if RunDirectory(work.path).status().get("status") == DONE:
            continue
        config = from_node(json.loads(json.dumps(work.node)))
        if "llm" in method_of(config.choices["method"]).reads(config.method):
            asked[json.dumps(work.node["llm"], sort_keys=True)] = config.llm
    for llm in asked.values():
        client.preflight(llm)

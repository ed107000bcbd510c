"""Seeds of one configuration side by side in one process (compute.stack): a thread each, their updates made as one.

Every run is as if alone: its directory, its log, its checkpoints, and its bytes on the same device.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from llmrl.checks import ConfigError
from llmrl.runs.files import remove_empty, topmost_missing
from llmrl.runs.finished import finished_before
from llmrl.runs.identity import INTERRUPTED
from llmrl.runs.lifecycle import REFUSED, RunResult, carry_out, check_here
from llmrl.runs.stop import Stop

Job = tuple[dict[str, Any], list[str]]  # a composed node, and the overrides that made it
JOIN_S = 0.5  # a signal's handler runs in the main thread, between two such waits


def groups_of(jobs: Sequence[Job]) -> list[list[int]]:
    """The jobs by their numbers: those that ask for compute.stack and differ in nothing but the seed are one group,
    wherever they stand in the sweep. A seed that is there twice is not in one group twice: the second finds the first
    one's run."""
    groups: list[list[int]] = []
    for i, (node, _) in enumerate(jobs):
        for group in groups if _stacks(node) else ():
            others = [jobs[j][0] for j in group]
            if _but_seed(node) == _but_seed(others[0]) and all(node["seed"] != other["seed"] for other in others):
                group.append(i)
                break
        else:
            groups.append([i])
    return groups


def _stacks(node: Mapping[str, Any]) -> bool:
    """A configuration of another shape is refused by the run itself."""
    compute = node.get("compute")
    return isinstance(compute, Mapping) and compute.get("stack") is True


def _but_seed(node: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in node.items() if key != "seed"}


def refusals(jobs: Sequence[Job]) -> list[str]:
    """Why groups cannot be trained, before any of the jobs is run. A group that is finished needs nothing any more."""
    groups = [group for group in groups_of(jobs) if len(group) > 1]
    if not groups:
        return []
    from llmrl.build import check_stackable  # torch
    from llmrl.config import from_node, method_of

    wrong = []
    for group in groups:
        left = []
        for i in group:
            node, overrides = jobs[i]
            config = from_node(_but_rerun(node), overrides)
            if node.get("rerun") or not finished_before(_but_rerun(node), Path(config.compute.outputs)):
                left.append(config)
        if len(left) > 1:
            try:
                check_here(left[0], method_of(left[0].choices["method"])())
                check_stackable(left[0])
            except ConfigError as error:
                wrong.append(str(error))
    return list(dict.fromkeys(wrong))


def _but_rerun(node: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in node.items() if key != "rerun"}


def carry_out_together(jobs: Sequence[Job], tell: Callable[[str], None], stop: Stop | None = None) -> list[RunResult]:
    """Carries out a group; see `carry_out`."""
    from llmrl import build, context  # noqa: F401 (torch and more: before several threads import them at once)
    from llmrl.loops.lockstep import Lockstep
    from llmrl.runs.console import Display, TrainingProgress

    lockstep, display = Lockstep(len(jobs)), Display()
    stops = [Stop() for _ in jobs]
    ended: dict[int, RunResult] = {}
    raised: list[BaseException] = []
    above = topmost_missing(_place_of(jobs[0]))

    def live(seat: int, node: dict[str, Any], overrides: list[str]) -> None:
        name = f"seed {node['seed']}: "

        def said(text: str) -> None:
            with display.lock:  # not in the middle of its last lines
                tell(type(text)(name + text.strip()))  # an End stays one

        try:
            ended[seat] = carry_out(
                node,
                overrides,
                stop=stops[seat],
                tell=said,
                together=lambda agent: lockstep.update(seat, agent),
                progress=partial(TrainingProgress, name=name, display=display),
            )
        except BaseException as error:
            raised.append(error)
        finally:
            lockstep.leave()

    threads = [threading.Thread(target=live, args=(i, *job), daemon=True) for i, job in enumerate(jobs)]
    with (stop or Stop()).installed() as signals:
        signals.followers += stops
        if signals.signum is not None:  # asked before
            signals.ask(signals.signum)
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(JOIN_S)
        signals.followers[:] = [each for each in signals.followers if each not in stops]
    if raised:
        raise raised[0]
    if all(one.status == REFUSED for one in ended.values()):
        remove_empty(above)  # each has left the directories that another one was in
    if any(one.status == INTERRUPTED for one in ended.values()):
        signals.chain()
    return [ended[seat] for seat in range(len(jobs))]


def _place_of(job: Job) -> Path:
    """Where the runs of a group lie."""
    from llmrl.config import from_node

    node, overrides = job
    config = from_node(_but_rerun(node), overrides)
    return Path(config.compute.outputs) / config.study / config.name / config.choices["env"].replace("/", "-")

"""Seeds of one configuration side by side in one process (compute.stack): a thread each, their updates made as one.

Every run is as if alone: its directory, its log, its checkpoints, and its bytes on the same device.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any

from llmrl.runs.lifecycle import RunResult, carry_out
from llmrl.runs.stop import Stop

Job = tuple[dict[str, Any], list[str]]  # a composed node, and the overrides that made it
LOOK_EVERY_S = 0.1  # how soon a signal, which the main thread alone hears, reaches the runs


def groups_of(jobs: Sequence[Job]) -> list[list[Job]]:
    """Neighbours that ask for compute.stack and differ in nothing but their seeds are a group."""
    groups: list[list[Job]] = []
    for job in jobs:
        if groups and job[0]["compute"]["stack"] is True and _but_seed(job[0]) == _but_seed(groups[-1][0][0]):
            groups[-1].append(job)
        else:
            groups.append([job])
    return groups


def _but_seed(node: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in node.items() if key != "seed"}


def carry_out_together(jobs: Sequence[Job], tell: Callable[[str], None], stop: Stop | None = None) -> list[RunResult]:
    """Carries out a group; see `carry_out`."""
    from llmrl.loops.lockstep import Lockstep

    lockstep = Lockstep(len(jobs))
    stops = [Stop() for _ in jobs]
    ended: dict[int, RunResult] = {}
    raised: list[BaseException] = []

    def live(seat: int, node: dict[str, Any], overrides: list[str]) -> None:
        try:
            ended[seat] = carry_out(
                node,
                overrides,
                stop=stops[seat],
                tell=lambda text: tell(type(text)(f"seed {node['seed']}: {text.strip()}")),  # an End stays one
                together=lambda agent: lockstep.update(seat, agent),
                show=seat == 0,
            )
        except BaseException as error:
            raised.append(error)
        finally:
            lockstep.leave()

    threads = [threading.Thread(target=live, args=(i, *job), daemon=True) for i, job in enumerate(jobs)]
    with (stop or Stop()).installed() as signals:
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            for thread in threads:
                thread.join(LOOK_EVERY_S / len(threads))
            if signals.signum is not None:
                for each in stops:
                    each.ask(signals.signum)
    if raised:
        raise raised[0]
    return [ended[seat] for seat in range(len(jobs))]

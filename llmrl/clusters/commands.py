"""What `llmrl run hydra/launcher=…` and `llmrl plan --submit` have in common: choose the queue, hand in, tell."""

import sys
from collections.abc import Sequence
from pathlib import Path

from llmrl.clusters.backend import backend_of
from llmrl.clusters.submit import Work, wait
from llmrl.clusters.submit import submit as hand_in
from llmrl.clusters.works import check_llms, check_unstacked
from llmrl.runs.children import OK, worst


def submit(works: Sequence[Work], launching: Sequence[str], outputs: Path) -> int:
    """Submits the runs. `launching`: hydra/launcher=<name> and overrides of its keys. Returns the exit code: 0, or that
    of the runs where the launcher's key `wait` is true. Raises ConfigError."""
    from llmrl.hydra_compose import launcher

    check_unstacked(works)
    backend = backend_of(launcher(launching))
    check_llms(works)
    submitted = hand_in(works, backend, outputs)
    print(f"{submitted.text()}. `llmrl status {outputs}` shows them.", flush=True)
    if not backend.settings.wait:
        return OK
    paths = [work.path for work in works]
    wait(paths, backend)
    code = worst(paths)
    if code != OK:
        print(f"Not all of the runs are done: `llmrl status {outputs}` says why.", file=sys.stderr)
    return code

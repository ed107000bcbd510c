"""A small offline training, for the tests of the loop; as a program it is one that can be killed:

python tests/offline_training.py <directory> <agent>
"""

import sys
from pathlib import Path

import numpy as np
import torch
from gymnasium import spaces
from small_agents import make, vectors

from llmrl.loops.offline import OfflineTraining
from llmrl.loops.training import Schedule
from llmrl.replay.dataset import Transitions
from llmrl.runs.checkpoint import Checkpoints
from llmrl.runs.log import RunLog
from llmrl.runs.stop import Stop

STATE, ACTIONS, SENTENCES, WIDTH, WORDINGS, CONTEXT = 3, 4, 9, 5, 2, 4
SMALL = {
    "bc": {"hidden": (16,), "batch_size": 8},
    "cql": {"hidden": (16,), "batch_size": 8, "target_update_every": 5},
    "bcq": {"hidden": (16,), "batch_size": 8, "target_update_every": 5},
    "decision_transformer": {"width": 8, "layers": 1, "context": CONTEXT, "batch_size": 4},
}


def some_transitions(seed=0, episodes=6, texts=True):
    """Episodes of 1 to 7 random steps, each with two wordings of its goal."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 8, size=episodes)
    n = int(lengths.sum())
    last = np.concatenate([np.arange(length) == length - 1 for length in lengths])
    text = np.repeat(rng.integers(SENTENCES // WORDINGS, size=episodes) * WORDINGS, lengths).astype(np.int32)
    return Transitions(
        state=rng.standard_normal((n, STATE)).astype(np.float32),
        action=rng.integers(ACTIONS, size=n),
        reward=rng.standard_normal(n).astype(np.float32),
        next_state=rng.standard_normal((n, STATE)).astype(np.float32),
        terminated=last & (rng.random(n) < 0.5),
        step=np.concatenate([np.arange(length) for length in lengths]).astype(np.int32),
        text=text if texts else None,
        table=rng.standard_normal((SENTENCES, WIDTH)).astype(np.float32) if texts else None,
        wordings=WORDINGS if texts else 1,
    )


def history_space(size, context=CONTEXT):
    return spaces.Dict(
        state=spaces.Box(-np.inf, np.inf, (context, size), np.float32),
        action=spaces.Box(0, ACTIONS - 1, (context,), np.int64),
        earned=spaces.Box(-np.inf, np.inf, (context,), np.float32),
        length=spaces.Box(1, context, (), np.int64),
    )


def agent_of(name, seed=0, size=STATE + WIDTH, device="cpu", **changes):
    space = history_space(size) if name == "decision_transformer" else vectors(size)
    return make(name, space, spaces.Discrete(ACTIONS), seed=seed, device=device, **SMALL[name] | changes)


def training(directory, name="cql", *, updates=30, evaluate_every=10, every_s=1e9, stop=None, report=None):
    """A training in `directory`, from whatever is there already; half of each batch is from another dataset."""
    directory.mkdir(exist_ok=True)
    agent, log, stop = agent_of(name), RunLog(directory), stop or Stop()

    def total():
        network = next(part for part in vars(agent).values() if isinstance(part, torch.nn.Module))
        return float(next(network.parameters()).detach().sum())

    def evaluate(clock):
        with stop.interruptible():
            log.evaluation({"env_steps": 0, "updates": clock.updates, "policy": "greedy", "total": total()})

    return OfflineTraining(
        agent,
        agent.source(some_transitions(0), some_transitions(1)),
        seed=3,
        schedule=Schedule(updates, evaluate_every, log_every=7, checkpoint_every_s=every_s),
        evaluate=evaluate,
        log=log,
        checkpoints=Checkpoints(directory / "checkpoint"),
        stop=stop,
        report=report or (lambda clock, facts: None),
        validate=lambda: {"total": total()},
    )


def left(directory, one):
    """All that a training left: files, and what was in memory."""
    one.log.close()
    return {name: (directory / name).read_bytes() for name in ("metrics.jsonl", "eval.jsonl")}, one.state_dict()


def main():
    directory, name = Path(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(1)
    training(directory, name, updates=300, every_s=0.0).run()


if __name__ == "__main__":
    main()

"""The backbone: a run that was interrupted ends byte for byte like one that was not. Here at every step, in process."""

import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SHORT, TINY, compose

from llmrl import context
from llmrl.config import from_node, method_of
from llmrl.llm import scripted
from llmrl.loops.online import OnlineTraining
from llmrl.runs import evaluate
from llmrl.runs.log import RunLog
from llmrl.runs.stop import Stop, Stopped

LLM = ["method=llm_explorer", "method.k=2", "method.m=5"]
EVALUATE = ["eval.every=20", *SHORT]
# Every case holds ended episodes, refreshes, evaluations, updates (TD3: between two delayed ones) and a replay that
# wraps around.
CASES = {
    "dqn_cart_pole": ["env=classic/cart_pole", *TINY["dqn"], "agent.replay_size=24", "budget.env_steps=50"],
    "dqn_cart_pole_2_envs": ["env=classic/cart_pole", *TINY["dqn"], "agent.replay_size=24", "agent.n_envs=2",
                             "agent.noisy=true", "agent.double=true", "agent.dueling=true", "budget.env_steps=80"],
    "td3_half_cheetah": ["env=mujoco/half_cheetah", "env.max_episode_steps=7", *TINY["td3"], "agent.replay_size=24",
                         "budget.env_steps=45"],
    "sac_half_cheetah": ["agent=sac", "env=mujoco/half_cheetah", "env.max_episode_steps=7", "agent.hidden=[16]",
                         "agent.batch_size=8", "agent.learning_starts=10", "agent.random_steps=5",
                         "agent.replay_size=24", "budget.env_steps=45"],
    "td3_humanoid": ["env=mujoco/humanoid", "env.max_episode_steps=9", *TINY["td3"], "agent.replay_size=24",
                     "budget.env_steps=41"],
    "dqn_sticky_freeway": ["env=atari/freeway", "env/atari/preprocess=llm_explorer",
                           "env.preprocess.max_frames=28", *TINY["dqn"], "agent.replay_size=16",
                           "budget.env_steps=32"],
}  # fmt: skip


class StopAtPass(Stop):
    """Asks to stop at the top of pass `at` of this life (0 = the first)."""

    def __init__(self, at: int | None) -> None:
        super().__init__()
        self.passes, self.at = -1, at

    def poll(self) -> None:
        if not self._regions:  # the loop's own poll, not that of an evaluation
            self.passes += 1
            if self.passes == self.at:
                raise Stopped(signal.SIGTERM)


@dataclass
class Life:
    """One start of a run in its directory: freshly built objects, whatever is on disk."""

    config: Any
    directory: Path
    at: int | None = None
    training: OnlineTraining | None = None
    warnings: list[str] = field(default_factory=list)

    def live(self) -> bool:
        """Runs until the end (True) or until it is stopped (False)."""
        self.directory.mkdir(exist_ok=True)
        log = RunLog(self.directory)
        ctx = context.RunContext(self.config, self.directory, StopAtPass(self.at), log, self._report)
        try:
            method_of(self.config.choices["method"])().run(ctx)
            return True
        except Stopped:
            return False
        finally:
            log.close()

    def _report(self, clock: Any, facts: dict) -> None:
        if "warning" in facts:
            self.warnings.append(facts["warning"])

    def left(self) -> dict[str, Any]:
        """All that the run left: files, and what was in memory."""
        training = self.training
        buffer = training.replay_buffer
        names = ["metrics.jsonl", "eval.jsonl", *(["llm.jsonl"] if (self.directory / "llm.jsonl").exists() else [])]
        files = {n: (self.directory / n).read_bytes() for n in names}
        rows = {n: ring.rows(max(0, ring.total - ring.capacity), ring.total) for n, ring in buffer.rings().items()}
        totals = {n: ring.total for n, ring in buffer.rings().items()}
        agent = torch.load(self.directory / "agent.pt", weights_only=False)
        return {"files": files, "agent": agent, "state": training.state_dict(), "rows": rows, "totals": totals,
                "replay_buffer": buffer.state_dict()}  # fmt: skip


@pytest.fixture
def lives(monkeypatch, tmp_path):
    """Makes lives of one configuration, each of which shows its training."""
    torch.set_num_threads(1)
    made: list[Life] = []

    class Shown(OnlineTraining):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            made[-1].training = self

    monkeypatch.setattr(context, "OnlineTraining", Shown)
    monkeypatch.setattr("os.fsync", lambda fd: None)  # nobody pulls the plug here, and there are hundreds of them

    def life(config: Any, name: str, at: int | None = None) -> Life:
        made.append(Life(config, tmp_path / name, at))
        return made[-1]

    return life


def config_of(case: str, *more: str) -> Any:
    method = LLM if "agent=sac" not in CASES[case] else []  # which refuses an agent without noise of its own
    return from_node(compose([*method, *CASES[case], *EVALUATE, *more]))


def uninterrupted(lives, config) -> dict[str, Any]:
    whole = lives(config, "whole")
    assert whole.live()
    return whole.left()


def equal(a: Any, b: Any, where: str = "") -> None:
    """Asserts that two nested values are the same bits."""
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            equal(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b)):
            equal(x, y, f"{where}/{i}")
    elif isinstance(a, torch.Tensor | np.ndarray):
        a, b = np.asarray(a), np.asarray(b)
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes()), where
    elif hasattr(a, "__dataclass_fields__"):
        equal(vars(a), vars(b), where)
    else:
        assert a == b, where


@pytest.mark.parametrize("case", CASES)
def test_stopped_before_every_step(case, lives):
    """One run that is stopped at the top of each of its passes, so that every step is another life's."""
    config = config_of(case)
    expected = uninterrupted(lives, config)
    rows = [len(lines.splitlines()) for lines in expected["files"].values()]
    assert min(rows) >= 4 and expected["state"]["clock"]["updates"] >= 4, "the window holds too little to prove much"
    assert any(total > ring["row" if "row" in ring else next(iter(ring))].shape[0]
               for total, ring in zip(expected["totals"].values(), expected["rows"].values()))  # fmt: skip
    n_lives = 1
    while not (life := lives(config, "stopped", at=1)).live():
        n_lives += 1
    assert n_lives == config.budget.env_steps // config.agent.n_envs + 1
    equal(life.left(), expected)


@pytest.mark.parametrize("case", ["dqn_cart_pole", "td3_half_cheetah"])
def test_stopped_once_wherever(case, lives):
    """For each pass a run that is stopped there, once, and goes on to its end."""
    config = config_of(case, "budget.env_steps=32", "eval.every=12")
    expected = uninterrupted(lives, config)
    for at in range(33):
        assert not lives(config, f"at_{at}", at=at).live()
        life = lives(config, f"at_{at}")
        assert life.live()
        equal(life.left(), expected, f"stopped at {at}: ")


def stopping_at(number: int, function):
    """The function, but its call `number` (counted from 1) is where the signal comes."""
    calls = 0

    def wrapped(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            raise Stopped(signal.SIGTERM)
        return function(*args)

    return wrapped


@pytest.mark.parametrize("number", [1, 5, 20, 30, 45, 65])
def test_stopped_inside_an_evaluation(number, lives, monkeypatch):
    config = config_of("td3_half_cheetah")
    expected = uninterrupted(lives, config)
    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "batch_of_one", stopping_at(number, evaluate.batch_of_one))
        assert not lives(config, "stopped").live()
    life = lives(config, "stopped")
    assert life.live()
    equal(life.left(), expected)


@pytest.mark.parametrize("number", range(1, 7))
def test_stopped_inside_an_llm_refresh(number, lives, monkeypatch):
    """Odd numbers: before stage 1 is answered; even ones: between the two stages. No call is made twice."""
    config = config_of("dqn_cart_pole_2_envs", "budget.env_steps=200")
    expected = uninterrupted(lives, config)
    with monkeypatch.context() as patch:
        patch.setattr(scripted, "answer", stopping_at(number, scripted.answer))
        assert not lives(config, "stopped").live()
    life = lives(config, "stopped")
    assert life.live()
    equal(life.left(), expected)


@pytest.mark.parametrize("damage", ["state", "chunk", "manifest"])
def test_a_torn_checkpoint_loses_only_the_steps_since_the_one_before(damage, lives):
    config = config_of("td3_half_cheetah")
    expected = uninterrupted(lives, config)
    assert not lives(config, "torn", at=20).live()
    assert not lives(config, "torn", at=15).live()
    checkpoints = tmp_checkpoints(life_directory := lives(config, "torn").directory)
    newest = checkpoints[-1]
    if damage == "manifest":
        (newest / "manifest.json").unlink()
    else:
        chunks = sorted((life_directory / "checkpoint" / "chunks").iterdir(), key=lambda p: p.stat().st_mtime_ns)
        path = newest / "state.pt" if damage == "state" else chunks[-1]
        path.write_bytes(path.read_bytes()[:-100])
    life = lives(config, "torn")
    assert life.live()
    assert len(life.warnings) == 1
    assert str(newest) in life.warnings[0] and "The one before it is used" in life.warnings[0]
    equal(life.left(), expected)


def test_without_any_whole_checkpoint_a_run_starts_again(lives):
    config = config_of("dqn_cart_pole")
    expected = uninterrupted(lives, config)
    assert not lives(config, "torn", at=20).live()
    for directory in tmp_checkpoints(lives(config, "torn").directory):
        (directory / "state.pt").write_bytes(b"")
    life = lives(config, "torn")
    assert life.live()
    assert "starts again at env_step 0" in life.warnings[-1]
    equal(life.left(), expected)


def test_half_a_checkpoint_that_a_kill_left_is_in_nobodys_way(lives):
    """SIGKILL while a checkpoint is written: the next life wants to write one of the same number."""
    config = config_of("dqn_cart_pole")
    expected = uninterrupted(lives, config)
    assert not lives(config, "killed", at=20).live()
    begun = lives(config, "killed").directory / "checkpoint" / ".1.tmp"
    begun.mkdir()
    (begun / "state.pt").write_bytes(b"half of it")
    assert not lives(config, "killed", at=5).live()
    assert not begun.exists()
    life = lives(config, "killed")
    assert life.live()
    equal(life.left(), expected)


def tmp_checkpoints(directory: Path) -> list[Path]:
    """Committed checkpoints, the oldest first."""
    return sorted((d for d in (directory / "checkpoint").iterdir() if d.name.isdigit()), key=lambda d: int(d.name))


@pytest.mark.parametrize("case", ["dqn_cart_pole", "td3_half_cheetah"])
def test_how_often_is_evaluated_changes_no_byte_of_training(case, lives):
    runs = []
    for every in (5, 33):
        life = lives(config_of(case, f"eval.every={every}"), f"every_{every}")
        assert life.live()
        runs.append(life.left())
    often, seldom = runs
    assert often["files"]["eval.jsonl"] != seldom["files"]["eval.jsonl"]
    for name in ("metrics.jsonl", "llm.jsonl"):
        assert often["files"][name] == seldom["files"][name]
    equal(often["agent"], seldom["agent"])
    equal(often["rows"], seldom["rows"])

"""compute.stack: seeds in one process, their updates made as one. Each run is the one that it is alone, to the byte."""

import signal
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import SHORT, TINY, below, only_run, run_directories, status

from llmrl import api
from llmrl.envs.base import check_spaces  # noqa: F401 (llmrl's environments have their ids)
from llmrl.runs.files import read_json, read_jsonl
from llmrl.runs.stacked import groups_of

CARTPOLE, PENDULUM = ["env=classic/cart_pole"], ["env=classic/pendulum", "env.max_episode_steps=17"]
LLM = ["method=llm_explorer", "method.k=2", "method.m=5"]
SHORTLY = [*SHORT, "budget.env_steps=60", "eval.every=20"]


def tiny(agent: str) -> list[str]:
    return [f"agent={agent}", *TINY["td3"][1:]]


CASES = {
    "td3": [*tiny("td3"), *PENDULUM],
    "ddpg": [*tiny("ddpg"), *PENDULUM],
    "sac": [*tiny("sac"), *PENDULUM],
    "dqn": [*TINY["dqn"], *CARTPOLE, "agent.updates_per_env_step=1"],  # episodes of different lengths
    "dqn, double, huber, clipped": [*TINY["dqn"], *CARTPOLE, "agent.double=true", "agent.loss=huber",
                                    "agent.max_grad_norm=0.5"],
    "td3, updates every other step": [*tiny("td3"), *PENDULUM, "agent.updates_per_env_step=0.5"],
    "dqn, 4 updates a step": [*TINY["dqn"], *CARTPOLE, "agent.updates_per_env_step=4", "agent.replay_size=24"],
    "dqn, 2 envs": [*TINY["dqn"], *CARTPOLE, "agent.n_envs=2"],
    "sac, 2 envs, 4 updates": [*tiny("sac"), *PENDULUM, "agent.n_envs=2", "agent.updates_per_env_step=4"],
    "llm_explorer, dqn": [*TINY["dqn"], *CARTPOLE, *LLM],
    "llm_explorer, td3": [*tiny("td3"), *PENDULUM, *LLM],
}  # fmt: skip


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def left_by(directory: Path) -> dict[str, bytes]:
    """What a finished run has left, without times, hosts and curves."""
    assert status(directory) == "DONE"
    names = ("agent.pt", "metrics.jsonl", "eval.jsonl", "result.json", "llm.jsonl", "identity.json")
    found = {name: (directory / name).read_bytes() for name in names if (directory / name).exists()}
    return found | {"checkpoint": str((directory / "checkpoint").exists()).encode()}


def runs_below(outputs: Path) -> dict[int, Path]:
    """The runs by their seeds."""
    return {read_json(path / "config.json")["seed"]: path for path in run_directories(outputs)}


def all_left(outputs: Path) -> dict[int, dict[str, bytes]]:
    return {seed: left_by(path) for seed, path in sorted(runs_below(outputs).items())}


def alone(overrides: list[str], seeds: list[int]) -> dict[int, dict[str, bytes]]:
    """What single runs leave."""
    ends = api.sweep([*overrides, "compute.outputs=alone"], seed=seeds)
    assert [ended.status for ended in ends] == ["DONE"] * len(seeds), ends
    return {seed: left_by(ended.path) for seed, ended in zip(seeds, ends)}


def stack(overrides: list[str], seeds: list[int], **options) -> list[api.RunResult]:
    return api.sweep([*overrides, "compute.stack=true"], seed=seeds, **options)


def members(archive: zipfile.ZipFile) -> list[str]:
    """Without the archive's own number, which holds a sum of its form."""
    return [name for name in archive.namelist() if not name.endswith("serialization_id")]


def checkpoint_content(directory: Path) -> dict[str, bytes]:
    """The checkpoint, file by file; of an archive its members, without the times in it."""
    found = {}
    for path in (path for path in sorted((directory / "checkpoint").rglob("*")) if path.is_file()):
        name = str(path.relative_to(directory))
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                found |= {f"{name}/{member}": archive.read(member) for member in members(archive)}
        elif path.name != "manifest.json":  # sums of the archives, whose bytes hold the time
            found[name] = path.read_bytes()
    return found


# --- as alone ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_each_of_three_seeds_is_the_run_that_it_is_alone(case, monkeypatch):
    from llmrl.loops.lockstep import Lockstep

    made, update = [], Lockstep._update
    monkeypatch.setattr(Lockstep, "_update", lambda self, asked: made.append(len(asked)) or update(self, asked))
    overrides = [*CASES[case], *SHORTLY]
    ends = stack(overrides, [0, 1, 4])
    assert [ended.status for ended in ends] == ["DONE"] * 3, ends
    assert [ended.path.name.split("-")[0] for ended in ends] == ["s0", "s1", "s4"]
    assert made == [3] * ends[0].result["updates"] and len(made) >= 10  # every one of them was made as one
    left = {seed: left_by(ended.path) for seed, ended in zip([0, 1, 4], ends)}
    assert left == alone(overrides, [0, 1, 4])
    assert left[0]["agent.pt"] != left[1]["agent.pt"]


def test_a_checkpoint_is_that_of_a_single_run(monkeypatch):
    """Of a stop at a certain step."""
    from llmrl.loops.training import Training

    begin = Training._checkpoint_if_due

    def stops(self):
        begin(self)
        if self.now == 33:
            self.stop.ask()
            self.stop.poll()

    monkeypatch.setattr(Training, "_checkpoint_if_due", stops)
    overrides = [*CASES["td3"], *SHORTLY]
    together = stack(overrides, [0, 1])
    singly = [api.run([*overrides, "compute.outputs=alone", f"seed={seed}"]) for seed in (0, 1)]
    assert [ended.status for ended in together + singly] == ["INTERRUPTED"] * 4
    for one, other in zip(together, singly):
        content = checkpoint_content(one.path)
        assert content == checkpoint_content(other.path) and any("state.pt" in name for name in content)


# --- killed, stopped, gone on with ------------------------------------------------------------------------------------


LONGER = ["budget.env_steps=800", "eval.every=200", *SHORT, "compute.checkpoint_every_s=0.1"]


def numbers(outputs: Path) -> list[int]:
    """Of every run the number of its newest checkpoint."""
    each = {path: [-1] for path in run_directories(outputs)}
    for path in below(outputs, "manifest.json"):
        if path.parent.name.isdigit():
            each.setdefault(path.parents[2], [-1]).append(int(path.parent.name))
    return [max(found) for found in each.values()]


@pytest.mark.parametrize("case, signals", [
    ("dqn", [signal.SIGKILL, signal.SIGTERM, signal.SIGKILL]),
    ("td3", [signal.SIGKILL, signal.SIGUSR2]),
])  # fmt: skip
def test_killed_and_stopped_at_random(case, signals, process, llmrl_run, here):
    args = ["-m", *CASES[case], *LONGER, "seed=0,1,2", "compute.stack=true", "compute.outputs=killed"]
    rng = np.random.default_rng(1)
    for signum in signals:
        target = max(numbers(here / "killed"), default=-1) + int(rng.integers(1, 4))
        run = process(*args)
        assert run.until(lambda target=target: max(numbers(here / "killed"), default=-1) >= target), run.end().err
        ended = run.send(signum)
        assert ended.code == (-signum if signum == signal.SIGKILL else 128 + signum), ended.err
        assert len(run_directories(here / "killed")) == 3
        if signum != signal.SIGKILL:
            assert all(status(path) == "INTERRUPTED" for path in run_directories(here / "killed"))
            for seed in range(3):
                assert f"seed {seed}: Stopped by {signal.Signals(signum).name}; the checkpoint is in" in ended.err
    done = llmrl_run(*args)
    assert done.code == 0, done.err
    assert all_left(here / "killed") == alone([*CASES[case], *LONGER], [0, 1, 2])


@pytest.mark.parametrize("case", ["td3", "dqn"])
def test_runs_that_stand_at_different_updates_go_on_together(case, monkeypatch):
    """One that is finished, two that were stopped early and late, one that is new; one goes on alone in between."""
    from llmrl.loops.training import Training

    overrides, stop_at, begin = [*CASES[case], *SHORTLY], {}, Training._checkpoint_if_due

    def stops(self):
        begin(self)
        if self.now == stop_at.get(self.seed):
            self.stop.ask()
            self.stop.poll()

    monkeypatch.setattr(Training, "_checkpoint_if_due", stops)
    stop_at.update({1: 15, 2: 45})
    singly = [api.run([*overrides, f"seed={seed}"]).status for seed in (0, 1, 2)]
    assert singly == ["DONE", "INTERRUPTED", "INTERRUPTED"]
    stop_at.update({1: 30, 2: None, 3: 20})  # each is interrupted by itself, and does not hold up the others
    ends = stack(overrides, [0, 1, 2, 3])
    assert [(ended.status, ended.before) for ended in ends] == [
        ("DONE", True), ("INTERRUPTED", False), ("DONE", False), ("INTERRUPTED", False)
    ]  # fmt: skip
    stop_at.clear()
    assert api.run([*overrides, "seed=1"]).status == "DONE"  # a stacked run goes on alone
    assert [ended.status for ended in stack(overrides, [0, 1, 2, 3])] == ["DONE"] * 4
    assert all_left(Path("outputs")) == alone(overrides, [0, 1, 2, 3])


def test_another_thread_stops_all_of_them_and_the_sweep(monkeypatch):
    from llmrl.agents.td3 import TD3

    overrides, stop, reached = [*CASES["td3"], *SHORTLY], api.Stop(), threading.Event()
    learn = TD3.learn_together

    def waits(self, *args, **kwargs):
        if self.updates == 12:
            reached.set()
            asked.join(60)
        return learn(self, *args, **kwargs)

    asked = threading.Thread(target=lambda: (reached.wait(60), stop.ask()))
    asked.start()
    with monkeypatch.context() as patch:
        patch.setattr(TD3, "learn_together", waits)
        ends = api.sweep([*overrides, "compute.stack=true"], {"agent.gamma": [0.9, 0.99]}, seed=[0, 1, 2], stop=stop)
    assert [(ended.status, ended.code) for ended in ends] == [("INTERRUPTED", 143)] * 3  # the second group not begun
    assert all(list((ended.path / "checkpoint").iterdir()) for ended in ends)
    ends = stack([*overrides, "agent.gamma=0.9"], [0, 1, 2])
    assert {seed: left_by(ended.path) for seed, ended in enumerate(ends)} == alone(
        [*overrides, "agent.gamma=0.9"], [0, 1, 2]
    )


def test_a_stop_cuts_long_evaluations_short(process, here):
    """They would take minutes; `send` waits 20 s."""
    run = process("-m", *TINY["td3"], "env=mujoco/half_cheetah", "eval.episodes=2000", "eval.max_steps=1000",
                  "seed=0,1", "compute.stack=true")  # fmt: skip
    assert run.until(lambda: [status(path.parent) for path in below(here, "status.json")] == ["RUNNING"] * 2)
    ended = run.send(signal.SIGTERM)
    assert ended.code == 143, ended.err
    for path in run_directories(here):
        assert status(path) == "INTERRUPTED" and read_jsonl(path / "eval.jsonl") == []


# --- one fails --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failing", [0, 2])
def test_one_that_fails_changes_no_other(failing, llmrl_run, monkeypatch, here):
    from llmrl.loops.online import OnlineTraining

    overrides, step = [*CASES["dqn"], *SHORTLY], OnlineTraining._step
    expected = alone(overrides, [0, 1, 2])

    def breaks(self):
        if self.seed == failing and self.clock.env_steps == 31:
            raise ValueError("the simulator is unstable")
        return step(self)

    with monkeypatch.context() as patch:
        patch.setattr(OnlineTraining, "_step", breaks)
        done = llmrl_run("-m", *overrides, "seed=0,1,2", "compute.stack=true")
    assert done.code == 1
    assert f"seed {failing}: Failed. ValueError: the simulator is unstable" in done.err
    runs = runs_below(here / "outputs")
    assert status(runs.pop(failing)) == "FAILED"
    assert {seed: left_by(path) for seed, path in sorted(runs.items())} == {
        seed: left for seed, left in expected.items() if seed != failing
    }
    again = llmrl_run("-m", *overrides, "seed=0,1,2", "compute.stack=true")
    assert again.code == 0, again.err
    assert all_left(here / "outputs") == expected


def test_an_update_that_fails_ends_all_that_are_in_it(monkeypatch):
    from llmrl.agents.dqn import DQN

    def fails(self, *args, **kwargs):
        raise ValueError("no such batch")

    monkeypatch.setattr(DQN, "learn_together", fails)
    ends = stack([*CASES["dqn"], *SHORTLY], [0, 1])
    assert [ended.status for ended in ends] == ["FAILED"] * 2
    assert all("several seeds at once failed: no such batch" in ended.message for ended in ends)


# --- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overrides, text", [
    (["agent=ppo", *CARTPOLE], "agent=ppo in env=classic/cart_pole"),
    (["agent=rainbow", "env=atari/freeway"], "agent=rainbow in env=atari/freeway"),
    ([*TINY["dqn"], "env=atari/freeway"], "agent=dqn in env=atari/freeway"),
    ([*TINY["dqn"], *CARTPOLE, "agent.dueling=true"], "agent=dqn in env=classic/cart_pole"),
    ([*TINY["dqn"], *CARTPOLE, "agent.noisy=true"], "agent=dqn in env=classic/cart_pole"),
    (["agent=rnd_dqn", *CARTPOLE], "agent=rnd_dqn in env=classic/cart_pole"),
    ([*CASES["td3"], "method=pretrained", "method.run=somewhere"], "method=pretrained trains no agent"),
    ([*TINY["td3"], *CARTPOLE], "agent=td3 acts in continuous actions"),
    ([*CASES["td3"], "compute.device=cuda:99"], "cuda:99 asked for"),
    ([*CASES["td3"], *LLM, "llm=gpt-4o-mini"], "OPENAI_API_KEY is not set"),
])  # fmt: skip
def test_what_cannot_be_stacked_is_refused_and_leaves_nothing(overrides, text, llmrl_run, here, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    done = llmrl_run("-m", *overrides, "seed=0,1,2", "compute.stack=true")
    assert done.code == 2 and text in done.err and "Traceback" not in done.err, done.err
    assert done.err.count(text) == 1  # not for each seed
    assert list(here.iterdir()) == []
    with pytest.raises(api.ConfigError, match=text):
        stack(overrides, [0, 1, 2])
    assert list(here.iterdir()) == []


def test_what_no_single_run_could_be_made_of_leaves_nothing_either(llmrl_run, here):
    done = llmrl_run("-m", *CASES["dqn"], "eval.sets=[unseen]", "seed=0,1,2", "compute.stack=true")
    assert done.code == 2 and all(f"seed {seed}: eval.sets: " in done.err for seed in range(3))
    assert list(here.iterdir()) == []


def test_a_sweep_is_refused_before_its_first_run(llmrl_run, here):
    done = llmrl_run("-m", *SHORTLY, *CARTPOLE, "agent=dqn,ppo", "seed=0,1", "compute.stack=true")
    assert done.code == 2 and "agent=ppo" in done.err and "agent=dqn" not in done.err
    assert list(here.iterdir()) == []


def test_one_seed_and_finished_runs_need_no_stack(llmrl_run):
    overrides = [*TINY["dqn"], *CARTPOLE, *SHORTLY, "agent.noisy=true"]
    for seed in (0, 1):
        assert llmrl_run(*overrides, f"seed={seed}", "compute.stack=true").code == 0
    again = llmrl_run("-m", *overrides, "seed=0,1", "compute.stack=true")
    assert again.code == 0 and again.out.count("Done before") == 2, again.err


# --- groups -----------------------------------------------------------------------------------------------------------


def node(seed: int, gamma: float = 0.9, stack: bool = True):
    return {"seed": seed, "agent": {"gamma": gamma}, "compute": {"stack": stack}}, []


def test_jobs_that_differ_in_the_seed_alone_are_a_group_wherever_they_stand():
    jobs = [node(seed, gamma) for seed in (0, 1) for gamma in (0.9, 0.99)]
    assert groups_of(jobs) == [[0, 2], [1, 3]]
    assert groups_of([node(seed, gamma) for gamma in (0.9, 0.99) for seed in (0, 1)]) == [[0, 1], [2, 3]]
    assert groups_of([node(0, stack=False), node(1, stack=False)]) == [[0], [1]]
    assert groups_of([node(0), node(1), node(0)]) == [[0, 1], [2]]  # the third finds the first one's run
    assert groups_of([]) == []


@pytest.mark.parametrize("axes", [["seed=0,1", "agent.gamma=0.9,0.99"], ["agent.gamma=0.9,0.99", "seed=0,1"]])
def test_whichever_order_hydra_makes(axes, llmrl_run, monkeypatch, here):
    from llmrl.loops.lockstep import Lockstep

    begun, init = [], Lockstep.__init__
    monkeypatch.setattr(Lockstep, "__init__", lambda self, n: begun.append(n) or init(self, n))
    done = llmrl_run("-m", *CASES["td3"], *SHORTLY, *axes, "compute.stack=true")
    assert done.code == 0, done.err
    assert begun == [2, 2] and len(run_directories(here)) == 4


def test_the_results_of_a_sweep_are_in_its_order():
    overrides = [*CASES["td3"], *SHORTLY, "compute.stack=true"]
    ends = api.sweep(overrides, seed=[1, 0, 1], **{"agent.gamma": [0.9, 0.99]})
    nodes = [read_json(ended.path / "config.json") for ended in ends]
    assert [(n["seed"], n["agent"]["gamma"]) for n in nodes] == [(s, g) for s in (1, 0, 1) for g in (0.9, 0.99)]
    assert [ended.before for ended in ends] == [False] * 4 + [True] * 2


# --- what is said -----------------------------------------------------------------------------------------------------


def test_every_line_says_whose_it_is(llmrl_run, here):
    overrides = [*CASES["td3"], *SHORTLY, "log.progress=true", "agent.learning_starts=70"]
    done = llmrl_run("-m", *overrides, "seed=0,1,2", "compute.stack=true")
    assert done.code == 0, done.err
    begun, lines, end = done.err.splitlines()[:3], done.err.splitlines()[3:-1], done.err.splitlines()[-1]
    assert [line[:11] for line in begun] == [f"Run {n} of 3:" for n in (1, 2, 3)] and end == "3 of 3 runs: 3 done"
    assert {line[:8] for line in lines} == {"seed 0: ", "seed 1: ", "seed 2: "}, done.err
    for seed in range(3):
        own = [line for line in lines if line.startswith(f"seed {seed}: ")]
        assert "no update is made" in own[0] and "60/60 env_steps" in own[-1]
    assert [line[-6:] for line in done.out.splitlines() if line.startswith("Done: ")] == ["seed 0", "seed 1", "seed 2"]


def test_a_damaged_checkpoint_is_said_of_its_seed(llmrl_run, monkeypatch, here):
    stop, overrides = api.Stop(), [*CASES["td3"], *SHORTLY]
    stop.ask()
    assert api.run([*overrides, "seed=1"], stop=stop).status == "INTERRUPTED"
    for path in (only_run(here) / "checkpoint").rglob("state.pt"):
        path.write_bytes(b"torn")
    done = llmrl_run("-m", *overrides, "seed=0,1", "compute.stack=true")
    (line,) = [line for line in done.err.splitlines() if "is damaged" in line]
    assert done.code == 0 and line.startswith("seed 1: ")


def test_a_terminal_shows_a_bar_for_each(llmrl_run, monkeypatch):
    """rich has one display at a time; each run has a bar in it."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    overrides = [*CASES["td3"], *SHORTLY, "log.progress=true"]
    done = llmrl_run("-m", *overrides, "seed=0,1,2", "compute.stack=true")
    assert done.code == 0 and "the display stopped" not in done.err and "LiveError" not in done.err
    for seed in range(3):
        assert f"seed {seed}\x1b" in done.err or f"seed {seed} " in done.err

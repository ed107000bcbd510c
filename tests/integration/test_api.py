"""llmrl as a library: every function of llmrl.api on real small runs."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import CART_POLE, ROOT, SHORT, TINY
from hydra import compose as hydra_compose
from hydra import initialize_config_dir, version
from hydra.core.global_hydra import GlobalHydra

from llmrl import api
from llmrl.agents.dqn import DQN
from llmrl.global_generator import global_generator
from llmrl.runs.files import read_json, read_jsonl

VANILLA = ["method=vanilla", *CART_POLE]
REACH = [*TINY["td3"], "env=classic/pendulum", "budget.env_steps=40", "eval.every=20", *SHORT]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Path:
    caplog.set_level("WARNING", logger="llmrl")  # a `llmrl run` in this process silences the root
    monkeypatch.chdir(tmp_path)
    return tmp_path


def in_threads(*calls: Any) -> list[Any]:
    """What the calls return, all at once, each in a thread of its own."""
    ends: dict[int, Any] = {}
    threads = [threading.Thread(target=lambda i=i, call=call: ends.update({i: call()})) for i, call in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [ends[i] for i in range(len(calls))]


# --- run --------------------------------------------------------------------------------------------------------------


def test_importing_it_is_cheap():
    heavy = "torch", "litellm", "gymnasium", "hydra", "pandas", "matplotlib"
    code = f"import sys; from llmrl import api; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_run_is_made_once_and_its_result_handed_back(here, capfd):
    first = api.run(VANILLA)
    assert (first.status, first.code, first.before) == ("DONE", 0, False)
    assert first.path.is_relative_to("outputs/default/vanilla-dqn") and first.result["env_steps"] == 60
    again = api.run(VANILLA)
    assert again.before and (again.path, again.result) == (first.path, first.result)
    assert capfd.readouterr() == ("", "") and Path.cwd() == here


def test_no_overrides_are_the_quickstart(monkeypatch):
    given = []
    monkeypatch.setattr(api, "carry_out", lambda node, texts, **_: given.append(node) or api.RunResult(None, "DONE", 0))
    api.run()
    assert given[0]["choices"]["experiment"] == "quickstart"


@pytest.mark.parametrize(("overrides", "text"), [
    (["agent=dqm"], "agent: there is no `dqm`. Did you mean `dqn`?"),
    ([*VANILLA, "agent.gama=0.9"], "agent.gama: unknown key (command line). Did you mean `agent.gamma`?"),
    ([*VANILLA, "agent.gamma=2"], "agent.gamma: input should be less than or equal to 1, not 2 (command line)"),
    ([*VANILLA, "agent=td3"], "unknown key"),
    ([*VANILLA, "compute.device=cuda:99"], "compute.device"),
    ("agent=td3", "overrides: a list of texts"),
])  # fmt: skip
def test_an_invalid_configuration_is_raised_and_leaves_nothing(overrides, text, here, caplog):
    with pytest.raises(api.ConfigError) as caught:
        api.run(overrides)
    assert text in str(caught.value) and list(here.iterdir()) == [] and caplog.text == ""


def test_other_ends_are_results_and_are_logged(monkeypatch, caplog):
    def fails(self, batch):
        raise ValueError("no such batch")

    monkeypatch.setattr(DQN, "update", fails)
    ended = api.run(VANILLA)
    assert (ended.status, ended.result) == ("FAILED", None) and "no such batch" in ended.message
    assert caplog.messages == [ended.message]


def test_what_is_told_beside_is_logged(caplog):
    assert api.run([*VANILLA, "agent.learning_starts=99"]).status == "DONE"
    assert caplog.messages == ["agent.learning_starts=99 and only 60 env_steps: no update is made"]


# --- threads ----------------------------------------------------------------------------------------------------------


def test_two_runs_at_once_end_as_each_alone():
    both = [[*VANILLA, "budget.env_steps=300", f"agent.gamma={gamma}"] for gamma in (0.9, 0.99)]
    alone = [api.run([*overrides, "study=alone"]) for overrides in both]
    every = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        together = in_threads(*(lambda overrides=overrides: api.run(overrides) for overrides in both))
    finally:
        sys.setswitchinterval(every)
    for one, other in zip(alone, together, strict=True):
        assert one.status == other.status == "DONE"
        for name in ("agent.pt", "metrics.jsonl", "eval.jsonl"):
            assert (one.path / name).read_bytes() == (other.path / name).read_bytes()
    assert (together[0].path / "agent.pt").read_bytes() != (together[1].path / "agent.pt").read_bytes()


def test_torchs_global_generator_is_one_threads_alone():
    import torch

    def draws() -> list[float]:
        with global_generator(3):
            inside.set()
            numbers = [float(torch.rand(())) for _ in range(200)]
            assert not other.is_set()
            return numbers

    def disturbs() -> None:
        inside.wait(60)
        with global_generator(4):
            other.set()
            torch.rand(1000)

    before, inside, other = torch.random.get_rng_state(), threading.Event(), threading.Event()
    numbers, _ = in_threads(draws, disturbs)
    gen = torch.Generator().manual_seed(3)
    assert numbers == [float(torch.rand((), generator=gen)) for _ in range(200)]
    assert torch.equal(torch.random.get_rng_state(), before)


def test_composing_leaves_hydras_state_as_it_was(here):
    (here / "conf").mkdir()
    (here / "conf" / "mine.yaml").write_text("a: 1\n")
    GlobalHydra.instance().clear()
    with initialize_config_dir(version_base="1.2", config_dir=str(here / "conf")):
        mine, base = GlobalHydra.instance().hydra, version.getbase()
        for overrides in (["agent=dqm"], ["agent=td3", "agent.gama=1"]):
            with pytest.raises(api.ConfigError):
                api.run(overrides)
        assert len(in_threads(*[lambda: api.make_env("classic/cart_pole")] * 4)) == 4
        assert GlobalHydra.instance().hydra is mine and version.getbase() == base
        assert hydra_compose("mine") == {"a": 1}
    assert not GlobalHydra.instance().is_initialized() and Path.cwd() == here


def test_a_run_that_another_thread_stops_goes_on_and_ends_as_if_it_had_not(monkeypatch):
    whole = api.run([*VANILLA, "study=whole"])
    stop, update, reached, asked = api.Stop(), DQN.update, threading.Event(), threading.Event()

    def waits(self, batch):
        if self.updates == 5:
            reached.set()
            asked.wait(60)
        return update(self, batch)

    def ask():
        reached.wait(60)
        stop.ask()
        asked.set()

    with monkeypatch.context() as patch:
        patch.setattr(DQN, "update", waits)
        ended, _ = in_threads(lambda: api.run(VANILLA, stop=stop), ask)
    assert ended.status == "INTERRUPTED" and (ended.path / "checkpoint").exists()
    done = api.run(VANILLA)
    assert (done.status, done.path, done.before) == ("DONE", ended.path, False)
    for name in ("agent.pt", "metrics.jsonl", "eval.jsonl", "result.json"):
        assert (done.path / name).read_bytes() == (whole.path / name).read_bytes()


# --- sweep ------------------------------------------------------------------------------------------------------------


def test_a_sweep_is_the_product_of_its_axes():
    ends = api.sweep(VANILLA, {"agent.gamma": [0.9, np.float64(0.5)], "agent.hidden": [(8,)]}, seed=range(2))
    assert [ended.status for ended in ends] == ["DONE"] * 4
    nodes = [read_json(ended.path / "config.json") for ended in ends]
    assert [(node["agent"]["gamma"], node["seed"]) for node in nodes] == [(0.9, 0), (0.9, 1), (0.5, 0), (0.5, 1)]
    assert all(node["agent"]["hidden"] == [8] for node in nodes)


def test_a_sweep_is_checked_as_a_whole_before_its_first_run(here):
    with pytest.raises(api.ConfigError) as caught:
        api.sweep(VANILLA, {"agent.gamma": [0.9, 2]}, seed=[0, "a"], budget=["paper", "short"])
    assert "agent.gamma: input should be" in str(caught.value) and "seed: must be" in str(caught.value)
    assert "(of the sweep: agent.gamma=2 seed=0 budget='paper')" in str(caught.value)
    with pytest.raises(api.ConfigError, match="sweep: seed needs a list of values, not 3"):
        api.sweep(VANILLA, seed=3)
    with pytest.raises(api.ConfigError, match="a object is no value"):
        api.sweep(VANILLA, seed=[object()])
    assert list(here.iterdir()) == []


def test_one_that_fails_does_not_end_a_sweep_and_one_that_is_stopped_does(monkeypatch):
    update, stop = DQN.update, api.Stop()

    def fails(self, batch):
        if self.config.gamma == 0.5:
            raise ValueError("no such batch")
        if self.config.gamma == 0.7:
            stop.ask()
        return update(self, batch)

    monkeypatch.setattr(DQN, "update", fails)
    ends = api.sweep(VANILLA, {"agent.gamma": [0.5, 0.6, 0.7, 0.8]}, stop=stop)
    assert [ended.status for ended in ends] == ["FAILED", "DONE", "INTERRUPTED"]


@pytest.mark.parametrize("value", ["null", "true", "1e5", "it's, [1] läb=x", "a\\'b", "", "${x}"])
def test_a_text_stays_the_text_that_it_is(value):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    (parsed,) = OverridesParser.create().parse_overrides([api._override("study", value)])
    assert parsed.value() == value


# --- runs -------------------------------------------------------------------------------------------------------------


def test_what_is_on_disk_as_records_and_frames():
    assert len(api.runs()) == 0 and list(api.runs().to_frame().columns)[:2] == ["path", "study"]
    first, second = api.sweep(VANILLA, seed=range(2))
    llm = api.run(["method=llm_explorer", *CART_POLE, "study=other"])
    torn = api.run([*VANILLA, "study=torn"])
    (torn.path / "eval.jsonl").write_text("{}\nno json\n")
    runs = api.runs()
    by_path = {run.path: run for run in runs}
    assert set(by_path) == {first.path, second.path, llm.path, torn.path} and len(runs[1:]) == 3
    run = by_path[first.path]
    assert (run.study, run.method, run.agent, run.env) == ("default", "vanilla", "dqn", "classic/cart_pole")
    assert (run.seed, run.status, run.env_steps, run.updates) == (0, "DONE", 60, first.result["updates"])
    rows = read_jsonl(first.path / "eval.jsonl")
    greedy = [row["return_mean"] for row in rows if row["policy"] == "greedy"]
    assert (run.last_return, run.best_return) == (greedy[-1], max(greedy))
    assert run.random_return == next(row["return_mean"] for row in rows if row["policy"] == "random")
    assert by_path[llm.path].llm == "scripted" and by_path[llm.path].llm_calls == llm.result["llm"]["calls"]
    damaged = by_path[torn.path]
    assert (damaged.status, damaged.last_return, damaged.success) == ("DAMAGED", None, {})
    assert "eval.jsonl" in damaged.reason
    frame = runs.to_frame("agent.gamma", "method.k").set_index("path")
    assert frame.loc[str(first.path), "last_return"] == greedy[-1] and frame.loc[str(first.path), "agent.gamma"] == 0.99
    assert frame.loc[str(torn.path), "status"] == "DAMAGED" and np.isnan(frame.loc[str(torn.path), "last_return"])
    assert frame["usd"].dtype == float and str(frame["llm_calls"].dtype) == "Int64"
    episodes = runs.evaluations()
    own = episodes[(episodes["run"] == str(first.path)) & (episodes["policy"] == "greedy")]
    assert own.groupby("env_steps")["return"].mean().tolist() == greedy
    assert own["episode"].tolist() == [0, 1] * len(greedy) and own["length"].max() <= 20
    assert str(torn.path) not in set(episodes["run"])
    assert [run.path for run in api.runs(first.path)] == [first.path]
    assert [run.path for run in api.runs("outputs/other")] == [llm.path]


def test_rates_of_success_have_columns_where_there_are_some(made_success):
    assert made_success.success == {"success": 0.5, "success_authors": 1.0}
    frame = api.runs().to_frame()
    assert frame[["success", "success_authors"]].iloc[0].tolist() == [0.5, 1.0]


@pytest.fixture
def made_success():
    """A run whose environment tells of success."""
    path = api.run(VANILLA).path
    rows = [json.loads(line) for line in (path / "eval.jsonl").read_text().splitlines()]
    rows = [row | {"success": [True, False], "success_authors": [True, True]} for row in rows]
    (path / "eval.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run,) = api.runs()
    return run


def test_an_unfinished_run_is_a_row_too(monkeypatch):
    stop = api.Stop()
    stop.ask()
    ended = api.run(VANILLA, stop=stop)
    (run,) = api.runs()
    assert (run.path, run.status, run.reason) == (ended.path, "INTERRUPTED", "SIGTERM")


def test_what_is_missing_for_runs_is_told(monkeypatch):
    with pytest.raises(api.ConfigError, match="there is no directory elsewhere"):
        api.runs("elsewhere")
    monkeypatch.setitem(sys.modules, "pandas", None)
    for frame in (api.runs().to_frame, api.runs().evaluations):
        with pytest.raises(api.ConfigError, match=r'pip install "llmrl\[frame\]"'):
            frame()


# --- load, make_env ---------------------------------------------------------------------------------------------------


def test_a_trained_agent_acts_and_repeats_its_evaluation():
    ended = api.run(REACH)
    before = sorted(ended.path.rglob("*"))
    loaded = api.load(ended)
    last = [row for row in read_jsonl(ended.path / "eval.jsonl") if row["policy"] == "greedy"][-1]
    assert loaded.play() == last["returns"] and loaded.play(1) == last["returns"][:1]
    assert len(loaded.play(3, seed=5)) == 3 and loaded.play(3, seed=5) == loaded.play(3, 5)
    env = loaded.env()
    obs, _ = env.reset(seed=1)
    action = loaded.act(obs)
    assert env.action_space.contains(action) and np.array_equal(action, loaded.act(obs))
    assert loaded.config.env.id == "Pendulum-v1" and loaded.clock["env_steps"] == 40 and loaded.source == "agent.pt"
    assert api.load(str(ended.path)).play() == api.load(api.runs()[0]).play() == last["returns"]
    assert loaded.env(render=True).reset(seed=0) and sorted(ended.path.rglob("*")) == before
    with pytest.raises(api.ConfigError, match="episodes from 1 on"):
        loaded.play(0)


def test_a_stochastic_policy_is_sampled_where_it_explores():
    tiny = ["agent=sac", "agent.hidden=[8]", "agent.batch_size=8", "agent.learning_starts=10"]
    loaded = api.load(api.run([*tiny, *REACH[len(TINY["td3"]) :]]))
    obs, _ = loaded.env().reset(seed=1)
    assert np.array_equal(loaded.act(obs), loaded.act(obs))
    assert not np.array_equal(loaded.act(obs, explore=True), loaded.act(obs, explore=True))


def test_a_checkpoint_is_loaded_too_and_a_wrapper_with_it(here):
    (here / "pair.py").write_text(
        "def revise_state(s):\n    return list(s) + [2.0]\ndef intrinsic_reward(s):\n    return 1.0\n"
    )
    over = [*REACH, "wrapper=lesr", f"wrapper.artifact={here / 'pair.py'}"]
    ended = api.run(over)
    assert ended.status == "DONE", ended.message
    (here / "pair.py").unlink()
    loaded = api.load(ended)
    obs, _ = loaded.env().reset(seed=0)
    assert obs.shape == (4,) and obs[3] == 2.0 and loaded.act(obs).shape == (1,)


@pytest.mark.parametrize("given", ["nowhere", api.RunResult(None, "REFUSED", 2, message="no")])
def test_what_cannot_be_loaded_is_told(given):
    with pytest.raises(api.ConfigError, match="not a run directory|no directory"):
        api.load(given)


def test_a_run_without_a_trained_agent_is_told():
    ended = api.run(["method=pretrained", f"method.run={api.run(VANILLA).path}", *VANILLA[1:]])
    assert ended.status == "DONE"
    with pytest.raises(api.ConfigError, match="neither agent.pt nor a whole checkpoint"):
        api.load(ended)


def test_an_environment_has_the_repositorys_settings_and_the_callers():
    env = api.make_env("pick_place/short_horizon", mode="analytic")
    assert env.unwrapped.config.mode == "analytic" and env.unwrapped.config.suite == "pick_place"
    first, second = (env.reset(seed=3)[0] for _ in range(2))
    assert all(np.array_equal(first[key], second[key]) for key in first)
    assert api.make_env("classic/cart_pole", role="eval", max_episode_steps=7).spec.max_episode_steps == 7
    for name, values, text in (
        ("classic/cart_pol", {}, "env: there is no `classic/cart_pol`. Did you mean `classic/cart_pole`?"),
        ("classic/cart_pole", {"max_episode_step": 7}, "Did you mean `env.max_episode_steps`?"),
        ("classic/cart_pole", {"max_episode_steps": 0}, "env.max_episode_steps: input should be"),
    ):
        with pytest.raises(api.ConfigError) as caught:
            api.make_env(name, **values)
        assert text in str(caught.value)
    assert not os.path.exists("outputs")

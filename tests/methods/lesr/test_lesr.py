"""LESR as runs: the search and its candidates, what survives a kill, what each preset changes."""

import json
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT, SHORT, TINY, Process, below, compose, only_run, status
from here import CHILDREN

from llmrl.config import from_node
from llmrl.methods.lesr import method as lesr
from llmrl.methods.lesr import search as lesr_search
from llmrl.methods.search import candidates
from llmrl.runs.children import outcome_of
from llmrl.runs.files import read_json, read_jsonl, write_json, write_text

SMALL = ["method=lesr", "env=classic/pendulum", *TINY["td3"], "env.max_episode_steps=20", "budget.env_steps=80",
         "eval.every=40", "method.search_env_steps=60", "method.search_evaluations=3", "method.search.k=1",
         "method.search.iterations=2", "method.search.score_window=30", "method.search.states=60", *SHORT]  # fmt: skip


def artifact(root: Path) -> Path:
    (found,) = (root / "artifacts" / "lesr").iterdir()
    return found


def final(root: Path, seed: int = 0) -> Path:
    (found,) = [path.parent for path in below(root, "result.json") if path.parent.name.startswith(f"s{seed}-")]
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """outputs/ of an uninterrupted run: a search with one candidate per iteration, and its final training."""
    folder = tmp_path_factory.mktemp("whole")
    done = Process(SMALL, folder, before=CHILDREN).end()
    assert done.code == 0, done.err
    return folder / "outputs"


def test_a_search_and_its_final_training(whole):
    search, run = artifact(whole), final(whole)
    found, result = read_json(search / "result.json"), read_json(run / "result.json")
    events = [row for row in read_jsonl(search / "llm.jsonl") if row["kind"] == "event"]
    trained = {row["index"]: row for row in events if row["event"] == "trained"}
    assert len(trained) == 2 and all(len(row["lipschitz"]) > 3 for row in trained.values())
    assert sorted(path.name for path in (search / "candidates").iterdir()) == ["0-0", "1-0"]
    best = max(trained, key=lambda index: trained[index]["score"])
    assert found["lesr"]["chosen"] == best
    name = "-".join(best.split("/")[:2])
    assert (search / "transform.py").read_text() == (search / "programs" / f"{name}.py").read_text()
    calls = [row["purpose"] for row in read_jsonl(search / "llm.jsonl") if row["kind"] == "call"]
    assert calls.count("lesr.feedback") == 1  # the last iteration's suggestions nobody would read
    assert found["env_steps_total"] == 2 * 60 and result["env_steps_total"] == 80 + 2 * 60
    assert result["llm"]["calls"] == len(calls)


def test_another_seed_shares_the_search(whole, llmrl_run):
    search, run = artifact(whole), final(whole)
    before = {path: path.stat().st_mtime_ns for path in search.rglob("*") if path.is_file()}
    again = llmrl_run(*SMALL, "seed=1", f"compute.outputs={whole}")
    assert again.code == 0, again.err
    assert {p: p.stat().st_mtime_ns for p in search.rglob("*") if p.is_file()} == before
    other = final(whole, 1)
    assert read_json(other / "artifact.json")["sha256"] == read_json(run / "artifact.json")["sha256"]
    assert (other / "agent.pt").read_bytes() != (run / "agent.pt").read_bytes()


def test_a_replay_asks_nobody_and_comes_to_the_same(whole, llmrl_run, tmp_path):
    search = artifact(whole)
    replay = llmrl_run(*SMALL, f"llm.replay={search}")
    assert replay.code == 0, replay.err
    repeated = artifact(tmp_path / "outputs")
    for name in ("llm.jsonl", "transform.py", "result.json"):
        assert (repeated / name).read_bytes() == (search / name).read_bytes()


def test_a_killed_search_goes_on_where_it_was(whole, process, tmp_path):
    """Killed when a candidate has ended, told to stop once it waits for the search again: no call and no finished
    candidate is made a second time, and everything ends as without interruption."""
    outputs = tmp_path / "outputs"

    def ended() -> list[Path]:
        candidates = [p for p in below(outputs / "artifacts", "status.json") if p.parent.parent.name == "candidates"]
        return [path for path in candidates if status(path.parent) == "DONE"]

    first = process(*SMALL)
    assert first.until(lambda: bool(ended())), first.end().err
    first.send(signal.SIGKILL)
    kept = {path: path.stat().st_mtime_ns for path in ended()}
    second = process(*SMALL)

    def waits() -> bool:
        known = [read_json(path) for path in below(outputs / "lesr", "status.json")]
        return any(one["pid"] == second.pid and one["status"] == "WAITING" for one in known)

    if second.until(waits):
        assert second.send(signal.SIGTERM).code == 143
    done = process(*SMALL).end()
    assert done.code == 0, done.err
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    for name in ("llm.jsonl", "transform.py", "result.json"):
        assert (artifact(outputs) / name).read_bytes() == (artifact(whole) / name).read_bytes()
    assert (final(outputs) / "agent.pt").read_bytes() == (final(whole) / "agent.pt").read_bytes()
    assert "waiting_for" not in read_json(final(outputs) / "status.json")  # it no longer does


def test_a_product_that_changed_is_refused(whole, llmrl_run, tmp_path):
    outputs = tmp_path / "outputs"
    shutil.copytree(whole, outputs)
    run, product = final(outputs), artifact(outputs) / "transform.py"
    (run / "result.json").unlink()
    write_json(run / "status.json", read_json(run / "status.json") | {"status": "PAUSED"})
    product.write_text(product.read_text() + "\n# edited\n")
    again = llmrl_run(*SMALL)
    assert again.code == 2 and "is not what this run began with" in again.err
    assert not (run / "result.json").exists()


@pytest.mark.parametrize("args", [["env=mujoco/humanoid_standup"], ["env=atari/freeway", "agent=dqn"]])
def test_a_task_without_a_sheet_is_refused(llmrl_run, args, tmp_path):
    small = [a for a in SMALL if not a.startswith(("env", "agent"))]
    done = llmrl_run(*small, *args)
    assert done.code == 2 and "env.task.observation" in done.err
    assert not below(tmp_path, "metrics.jsonl")


@pytest.mark.parametrize(
    ("agent", "env", "why"),
    [("dqn", "classic/pendulum", "acts in discrete actions"), ("bc", "classic/cart_pole", "learns from a dataset")],
)
def test_an_agent_that_cannot_act_here_is_refused_before_the_llm_is_asked(llmrl_run, agent, env, why, tmp_path):
    done = llmrl_run(*[a for a in SMALL if not a.startswith(("agent", "env"))], f"agent={agent}", f"env={env}")
    assert done.code == 2 and why in done.err
    assert not below(tmp_path, "llm.jsonl")


def test_a_wrapper_of_ones_own_is_refused(llmrl_run, tmp_path):
    pair = tmp_path / "pair.py"
    pair.write_text("def revise_state(s):\n    return s\n")
    done = llmrl_run(*SMALL, "wrapper=lesr", f"wrapper.artifact={pair}")
    assert done.code == 2 and "method=vanilla with it" in done.err
    assert not below(tmp_path, "metrics.jsonl")


# --- searches whose trainings are made up, to see what is asked and what would be trained -----------------------------


@pytest.fixture
def searched(tmp_path, monkeypatch):
    """The directory of a search with overrides, on Hopper; a candidate's score is the length of its program."""

    def train(directories, parallel, stop):
        for directory in directories:
            config = read_json(directory / "config.json")
            code = Path(config["wrapper"]["artifact"]).read_text()
            if "fails" in scores:
                write_json(directory / "status.json", {"status": "FAILED", "reason": scores.pop("fails")})
                continue
            features = 3
            facts = {"features": features, "lipschitz": [1.5] * (11 + features)}
            counts = {"env_steps": 60, "updates": 50, "episodes": 3}
            write_json(directory / "result.json", {**counts, "wrapper": facts})
            value = float(len(code))
            rows = [{"policy": "greedy", "env_steps": s, "returns": [value], "lengths": [20]} for s in (20, 40, 60)]
            write_text(directory / "eval.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
            write_json(directory / "status.json", {"status": "DONE"})
        return [outcome_of(directory) for directory in directories]

    scores: dict = {}
    monkeypatch.setattr(candidates, "run_all", train)

    def search(*overrides: str, fails: str = "") -> Path:
        from llmrl.context import RunContext
        from llmrl.runs.log import RunLog
        from llmrl.runs.stop import Stop

        if fails:
            scores["fails"] = fails
        sized = [a for a in SMALL if a.startswith(("method.search", "budget", "env.max", "eval", "log"))]
        sized += ["env=mujoco/hopper", "method.search.k=2"]
        config = lesr.search_of(from_node(compose([*overrides, *sized])))
        directory = tmp_path / f"search{len(list(tmp_path.iterdir()))}"
        directory.mkdir()
        log = RunLog(directory)
        result = lesr_search.LESRSearch().run(RunContext(config, directory, Stop(), log, lambda *_: None))
        write_json(directory / "result.json", result)
        log.close()
        return directory

    return search


def asked(directory: Path, purpose: str) -> list[str]:
    rows = [row for row in read_jsonl(directory / "llm.jsonl") if row["kind"] == "call" and row["purpose"] == purpose]
    return [row["messages"][-1]["content"] for row in rows]


def children(directory: Path) -> list[SimpleNamespace]:
    configs = [read_json(path / "config.json") for path in sorted((directory / "candidates").iterdir())]
    return [SimpleNamespace(**config) for config in configs]


def test_the_report_tells_what_a_search_tried_rejected_and_chose(searched):
    from llmrl.methods.lesr.report import tried

    directory = searched("experiment=lesr/mujoco", fails="SandboxFailure: raised")
    rows = tried(SimpleNamespace(path=directory, result=read_json(directory / "result.json")))
    outcomes = [row.outcome for row in rows]
    assert outcomes.count("failed") == 1 and outcomes.count("chosen") == 1 and outcomes.count("trained") == 2
    assert "rejected" in outcomes and all(bool(row.reason) == (row.outcome in ("rejected", "failed")) for row in rows)
    assert max(rows, key=lambda row: row.score or 0).outcome == "chosen"


@pytest.mark.parametrize(
    "control, expected", [("random_features", "tanh"), ("duplicated_dimensions", "s[[0, 1, 2, 0]]")]
)
def test_the_controls_of_equal_width(control, expected):
    from llmrl.methods.lesr.program import ENTRY, Sandbox

    code = lesr.CONTROLS[control](3, 4, 0)
    assert expected in code
    with Sandbox(code, ["revise_state"], ENTRY) as sandbox:
        features, reward = sandbox.call("step", np.array([0.5, -1.0, 2.0]))
    assert features.shape == (4,) and reward == 0.0
    assert code == lesr.CONTROLS[control](3, 4, 0)  # of the search's seed, not of the run's


@pytest.mark.parametrize("preset", ["hopper", "half_cheetah", "fetch_reach", "mujoco"])
@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_the_score_window_begins_well_after_training_has(preset, scale):
    config = from_node(compose([f"experiment=lesr/{preset}", f"budget.scale={scale}"]))
    search = lesr.search_of(config)
    evaluations = max(search.method.score_evaluations * search.eval.every, search.method.score_window)
    assert search.budget.env_steps - evaluations >= 1.5 * search.agent.learning_starts
    assert search.agent.learning_starts == search.agent.random_steps
    assert search.method.score_window == round(scale * from_node(
        compose([f"experiment=lesr/{preset}"])).method.search.score_window)  # fmt: skip


def test_transfer_trains_candidates_with_the_searchs_agent():
    for agent in ("ppo", "sac"):
        config = from_node(compose([f"experiment=lesr/transfer_{agent}"]))
        search = lesr.search_of(config)
        assert config.choices["agent"] == agent and search.choices["agent"] == "td3"
        base = lesr.search_of(from_node(compose(["experiment=lesr/mujoco"])))
        assert search.agent == base.agent  # so both find the same search


def test_the_search_can_be_run_alone_and_is_the_one_that_lesr_uses():
    from llmrl.config import identity, run_path

    assert (ROOT / "conf" / "method" / "lesr/search.yaml").exists()
    config = lesr.search_of(from_node(compose(SMALL)))
    path = run_path(config, identity(config, lesr_search.LESRSearch.reads(config.method)))
    assert path.parts[:3] == ("outputs", "artifacts", "lesr")


def test_llm_explorer_on_a_state_that_lesr_wrote(llmrl_run, tmp_path):
    pair = tmp_path / "pair.py"
    pair.write_text("import numpy as np\ndef revise_state(s):\n    return np.append(s, s[0] * s[2])\n")
    done = llmrl_run(*TINY["td3"], "method=llm_explorer", "method.m=5", "env=classic/pendulum", "wrapper=lesr",
                     f"wrapper.artifact={pair}", "env.max_episode_steps=15", "budget.env_steps=60", "eval.every=30",
                     *SHORT)  # fmt: skip
    assert done.code == 0, done.err
    result = read_json(only_run(tmp_path) / "result.json")
    assert result["wrapper"]["features"] == 1 and result["llm_explorer"]["refreshes"] > 0

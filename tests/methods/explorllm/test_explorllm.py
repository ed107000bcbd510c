"""ExploRLLM as runs: guidance and its control, what seeds share, what survives an interruption, what presets change."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import Process, compose
from here import CHILDREN
from test_presets_llm_explorer import difference
from test_resume_in_process import equal, lives, uninterrupted  # noqa: F401 (lives is a fixture)

from llmrl.config import from_node, identity
from llmrl.contracts.explorer import Clock
from llmrl.methods.explorllm import method as explorllm
from llmrl.methods.explorllm import programs as explorllm_programs
from llmrl.methods.explorllm.method import ProgramExplorer
from llmrl.methods.explorllm.program_policy import DRAWS
from llmrl.runs.files import read_json, read_jsonl

TINY = ["agent.hidden=[8]", "agent.batch_size=4", "agent.learning_starts=12", "agent.random_steps=10",
        "agent.replay_size=24", "eval.episodes=1", "eval.max_steps=3", "log.every=10",
        "log.progress=false"]  # fmt: skip
SMALL = ["experiment=explorllm/guided", "method.epsilon=0.5", "method.programs.tables=2",
         "method.programs.crops=3", *TINY, "budget.env_steps=40", "eval.every=40", "eval.sets=[]"]  # fmt: skip


def artifact(root: Path) -> Path:
    (found,) = (root / "artifacts" / "explorllm").iterdir()
    return found


def final(root: Path, seed: int = 0, method: str = "explorllm") -> Path:
    (found,) = (root / "explorllm").glob(f"{method}-sac_*/pick_place-short_horizon/s{seed}-*")
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """outputs/ of an uninterrupted run, in a process of its own."""
    folder = tmp_path_factory.mktemp("whole")
    done = Process(SMALL, folder, before=CHILDREN).end()
    assert done.code == 0, done.err
    return folder / "outputs"


def test_a_run_is_guided_by_programs_that_were_asked_for_once(whole):
    programs, run = artifact(whole), final(whole)
    found, result = read_json(programs / "programs.json"), read_json(run / "result.json")["explorllm"]
    calls = [row["purpose"] for row in read_jsonl(programs / "llm.jsonl") if row["kind"] == "call"]
    assert calls == ["explorllm.planner", *["explorllm.affordance"] * 6, "explorllm.place"]
    assert result["rejected"] == found["rejected"] == {"explorllm.affordance 2": "raised"}
    assert result["failures"] == {} and 5 < result["guided_env_steps"] < 25
    scores = {i: facts["stochastic"] for i, facts in enumerate(found["scores"]) if facts}
    assert result["affordance"] == max(scores, key=lambda i: scores[i])
    names = {path.stem for path in (programs / "programs").iterdir()}
    assert names == {"planner", "place_map", *(f"affordance_{i}" for i in scores)}
    rows = [row for row in read_jsonl(run / "metrics.jsonl") if row["kind"] == "train"]
    assert [row["epsilon"] for row in rows] == [0.5] * 4
    assert rows[0]["guided_env_steps"] == 0  # ten random ones
    assert rows[-1]["guided_env_steps"] == result["guided_env_steps"] and rows[-1]["program_failures"] == 0


def test_another_seed_agent_or_control_shares_the_programs(whole, llmrl_run):
    before = (artifact(whole) / "llm.jsonl").stat().st_mtime_ns
    more = ["seed=1", "agent=sac_crops", "agent.attention=none", "env.actions=pixel", "budget.env_steps=12"]
    again = llmrl_run(*SMALL, *more, f"compute.outputs={whole}")
    assert again.code == 0, again.err
    assert (artifact(whole) / "llm.jsonl").stat().st_mtime_ns == before
    shared = [read_json(final(whole, seed) / "artifact.json")["sha256"] for seed in (0, 1)]
    assert shared[0] == shared[1]


def test_a_replay_asks_nobody_and_comes_to_the_same(whole, llmrl_run, tmp_path):
    replay = llmrl_run(*SMALL, f"llm.replay={final(whole)}", "llm.kind=litellm", "llm.model=nobody/there")
    assert replay.code == 0, replay.err
    repeated = artifact(tmp_path / "outputs")
    for name in ("llm.jsonl", "programs.json"):
        assert (repeated / name).read_bytes() == (artifact(whole) / name).read_bytes()
    assert (final(tmp_path / "outputs") / "agent.pt").read_bytes() == (final(whole) / "agent.pt").read_bytes()


def test_epsilon_zero_is_the_agent_alone_and_asks_nobody(llmrl_run, tmp_path):
    assert llmrl_run(*SMALL, "method.epsilon=0").code == 0
    plain = ["method=vanilla", "agent=sac_objects", "agent.evaluate=both", "env=pick_place/short_horizon", *TINY,
             "budget.env_steps=40"]  # fmt: skip
    done = llmrl_run(*plain, "eval.every=40", "study=explorllm")
    assert done.code == 0, done.err
    assert not (tmp_path / "outputs" / "artifacts").exists()
    for name in ("agent.pt", "metrics.jsonl", "eval.jsonl"):
        unguided = final(tmp_path / "outputs") / name
        assert unguided.read_bytes() == (final(tmp_path / "outputs", method="vanilla") / name).read_bytes()


def test_stopped_before_every_fifth_step_it_ends_the_same(lives, whole):  # noqa: F811
    """Among the lives is one before each of: random steps, guided and unguided ones, updates, a wrapped replay."""
    node = compose([*SMALL, f"compute.outputs={whole}", "eval.every=15"])
    config = from_node(node)
    expected = uninterrupted(lives, config)
    assert expected["state"]["explorer"]["guided_env_steps"] > 5 and expected["state"]["clock"]["updates"] > 20
    n_lives = 1
    while not (life := lives(config, "stopped", at=5)).live():
        n_lives += 1
    assert n_lives == 40 // 5 + 1
    equal(life.left(), expected)


@pytest.mark.parametrize("policy", ["program", "argmax", "centre", "random", "oracle"])
def test_policies_alone_are_evaluated_with_the_same_programs(policy, whole, llmrl_run):
    programs = ["method.programs.tables=2", "method.programs.crops=3", "llm.temperature=1.0"]
    done = llmrl_run("method=explorllm/policy", "agent=sac_crops", "env=pick_place/short_horizon",
                     f"method.policy={policy}", *programs, "eval.episodes=4", f"compute.outputs={whole}",
                     "study=alone", "log.progress=false")  # fmt: skip
    assert len(list((whole / "artifacts" / "explorllm").iterdir())) == 1
    assert done.code == 0, done.err
    results = {read_json(path)["explorllm"]["policy"]: path.parent for path in (whole / "alone").rglob("result.json")}
    (row,) = read_jsonl(results[policy] / "eval.jsonl")
    assert len(row["returns"]) == 4 and len(row["success"]) == 4
    assert (row["return_mean"] > 0.95) == (policy == "oracle")


def test_another_environment_is_refused(llmrl_run, tmp_path):
    done = llmrl_run("method=explorllm", "agent=sac", "env=classic/pendulum", "budget.env_steps=10")
    assert done.code == 2 and "method=explorllm does not take env=classic/pendulum" in done.err
    image = ["env.observation=image", "env.actions=pixel"]
    for method in ("explorllm", "explorllm/policy"):
        done = llmrl_run(f"method={method}", "agent=sac_crops", "env=pick_place/short_horizon", *image)
        assert done.code == 2 and "env.observation=crops" in done.err
    assert not (tmp_path / "outputs").exists()  # nothing was asked


def test_a_candidate_that_will_not_be_there_is_refused(llmrl_run, tmp_path):
    for method in ("explorllm", "explorllm/policy"):
        wanted = [f"method={method}", "method.affordance=6", "method.programs.n=6"]
        done = llmrl_run(*wanted, "agent=sac_crops", "env=pick_place/short_horizon")
        assert done.code == 2 and "method.affordance: unknown candidate 6; programs.n=6 gives 0 to 5" in done.err
    assert not (tmp_path / "outputs").exists()


# --- the explorer -----------------------------------------------------------------------------------------------------


class Marked:
    """Stands for the programs: an action that nobody else makes."""

    failures: dict = {}

    def act(self, obs, draws):
        assert draws.shape == (len(obs["x"]), DRAWS)
        return np.full((len(draws), 2), 7.0)


class Around:
    """The agent's own explorer: random at first."""

    def propose(self, obs, policy, clock, info, rng):
        return rng.random((len(info), 2)) if clock.env_steps < 10 else policy()

    def metrics(self):
        return {}

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


def explorer(epsilon, seed=0):
    return ProgramExplorer(Around(), Marked(), epsilon=epsilon, rng=np.random.default_rng(seed))


def propose(one, env_steps, n=3):
    obs = {"x": np.zeros((n, 1))}
    actions = one.propose(obs, lambda: np.zeros((n, 2)), Clock(env_steps), [{}] * n, np.random.default_rng(1))
    return actions[:, 0] == 7.0


def test_a_share_epsilon_of_env_steps_is_guided_after_the_random_ones():
    one = explorer(lambda env_steps: 0.3)
    assert not np.any([propose(one, t) for t in range(10)])
    guided = np.array([propose(one, 10 + t) for t in range(400)])
    assert abs(guided.mean() - 0.3) < 4 * np.sqrt(0.3 * 0.7 / guided.size)
    assert one.guided_env_steps == guided.sum()
    np.testing.assert_allclose(guided.mean(axis=0), 0.3, atol=0.1)  # in every environment


def test_epsilon_may_fade_and_the_explorer_goes_on_from_its_state():
    fading = lambda t: max(0.0, 1 - t / 200)  # noqa: E731
    one = explorer(fading)
    early, late = (np.mean([propose(one, t) for t in span]) for span in (range(10, 60), range(150, 200)))
    assert early > 0.7 and late < 0.25 and not propose(one, 300).any()
    other = explorer(fading, seed=5)
    other.load_state_dict(json.loads(json.dumps(one.state_dict())))
    assert [propose(one, t).tolist() for t in range(50, 90)] == [propose(other, t).tolist() for t in range(50, 90)]
    assert one.metrics() == other.metrics()


# --- presets ----------------------------------------------------------------------------------------------------------

DIFFERENT = {
    "unguided": {"method.epsilon": 0.0},
    "poor_affordance": {"method.affordance": "worst"},  # of whole_offset
    "argmax": {"method.sampling": "argmax"},
    "whole_offset": {"method.offset_scale": 2.0},
    "without_residual": {"env.actions": "pixel"},  # of all_crops
    "decaying": {"method.epsilon_schedule": "linear"},
}

BASES = {"poor_affordance": "whole_offset", "without_residual": "all_crops"}  # of the others: guided


@pytest.mark.parametrize("horizon", ["short", "long"])
@pytest.mark.parametrize("preset", DIFFERENT)
def test_a_control_differs_in_one_thing_and_shares_the_programs(preset, horizon):
    base, control = (
        from_node(compose([f"experiment=explorllm/{name}", f"env=pick_place/{horizon}_horizon"]))
        for name in (BASES.get(preset, "guided"), preset)
    )
    reads = explorllm.ExploRLLM.reads(base.method)
    found = difference(identity(base, reads), identity(control, reads))
    assert {key: value[1] for key, value in found.items()} == DIFFERENT[preset]
    if control.method.epsilon:
        shared = [identity(explorllm_programs.run_of(config, config.method.programs), ("llm",))
                  for config in (base, control)]  # fmt: skip
        assert shared[0] == shared[1]
    else:
        assert explorllm.ExploRLLM.stages(control) == [] and explorllm.ExploRLLM.reads(control.method) == ()

"""KALM from the command line: all stages, what runs share, controls, and what is refused."""

import csv
import signal

import numpy as np
import pytest
from command_line import in_process  # noqa: F401 (a fixture)
from conftest import below, compose
from here import CHILDREN

from llmrl.config import from_node
from llmrl.envs import clevr_robot
from llmrl.envs.clevr_robot.model import ACTIONS
from llmrl.envs.clevr_robot.side_by_side import SideBySide
from llmrl.methods.kalm.policy import Noisy
from llmrl.runs import seeding
from llmrl.runs.evaluate import Case, evaluate, evaluate_together
from llmrl.runs.files import read_json, read_jsonl
from llmrl.runs.stop import Stop

WORDS = ["env.language=words", "eval.set_episodes=3", "budget.eval_episodes=3", "log.progress=false"]
DATA = ["method.data.rollouts=80", "method.real_rollouts=80"]
MODEL = ["goal=encoder", "encoder=words", "updates=4", "evaluations=1", "validation_rollouts=4", "batch_size=6",
         "sizes.hidden=16", "sizes.heads=2", "sizes.layers=1", "sizes.intermediate=16"]  # fmt: skip
TINY = [*WORDS, *DATA, *(f"method.rollouts.model.model.{key}" for key in MODEL), "method.rollouts.rollouts=6",
        "method.rollouts.max_steps=4", "method.rollouts.drawn=0", "agent.hidden=[8]", "budget.paper_updates=20",
        "budget.evaluations=2", "log.every=5"]  # fmt: skip
pytestmark = pytest.mark.usefixtures("children_here")


def test_all_stages_make_a_policy_that_is_evaluated_on_every_tier(llmrl_run, tmp_path):
    run = ["experiment=kalm/clevr_quick", *TINY]
    for more in ([], ["seed=1"], ["method.imagined=[]"]):
        done = llmrl_run(*run, *more)
        assert done.code == 0, done.err
    artifacts = tmp_path / "outputs" / "artifacts"
    made = {kind: len(list((artifacts / kind).iterdir())) for kind in ("kalm_data", "kalm_model", "kalm_rollouts")}
    assert made == {"kalm_data": 1, "kalm_model": 1, "kalm_rollouts": 1}  # two seeds and the control share all
    finished = {path.parent: read_json(path) for path in below(tmp_path / "outputs" / "kalm", "result.json")}
    assert len(finished) == 3
    for directory, result in finished.items():
        alone = not read_json(directory / "config.json")["method"]["imagined"]
        assert (result["env_steps"], result["updates"]) == (0, 20)
        assert result["kalm"]["real_rollouts"] == 80 and ("rephrase_transitions" in result["kalm"]) is not alone
        rows = read_jsonl(directory / "eval.jsonl")
        tiers = ["greedy", *(f"greedy on {tier}" for tier in ("rephrase", "easy", "hard"))]
        assert [row["policy"] for row in rows] == ["random", *tiers, *tiers, *tiers]
        assert [row["updates"] for row in rows[1::4]] == [0, 10, 20]
        assert all(len(row["success"]) == 3 for row in rows)


def test_imagined_by_hand_is_what_policies_share_and_stands_in_tables(llmrl_run, llmrl, tmp_path):
    assert llmrl_run("experiment=kalm/clevr", *TINY).code == 0
    artifacts = tmp_path / "outputs" / "artifacts"
    (made,) = (artifacts / "kalm_rollouts").iterdir()
    own = ["method.model.data.rollouts=80", *(f"method.model.model.{key}" for key in MODEL), "method.rollouts=6",
           "method.max_steps=4", "method.drawn=0"]  # fmt: skip
    again = llmrl_run("method=kalm/rollouts", "env=clevr_robot/easy", "agent=bc", "seed=5", *own)
    assert again.code == 0 and "nothing to do" in again.out and made.name in again.out
    asked = ["--row", "rephrase", *(word for text in own for word in ("--set", text))]
    plan = llmrl("plan", "table=kalm/match_rate", "--column", "all three", *asked)
    assert "1 runs: 1 done" in plan.out and made.name in plan.out
    facts = read_json(made / "metrics.json")
    for name, column, key in (("match_rate", "all three", "match"), ("unrealistic", "outside", "outside_workbench")):
        done = llmrl("table", f"kalm/{name}", "--column", column, *asked)
        assert done.code == 0, done.err
        (row,) = csv.DictReader((tmp_path / "outputs" / "tables" / "kalm" / f"{name}.csv").open())
        assert float(row["ours"]) == pytest.approx(facts[key], abs=1e-6) and row["published"]
    assert len(list((artifacts / "kalm_rollouts").iterdir())) == 1
    one_step = [word for word in own if "max_steps" not in word]
    none = llmrl_run("method=kalm/rollouts", "env=clevr_robot/base", *one_step, "method.max_steps=1",
                     "method.tier=hard", "method.drop_failed=true")  # fmt: skip
    assert none.code == 2 and "none of 6 imagined rollouts of hard reached its goal" in none.err
    assert not below(artifacts, "metrics.json")[1:]


def test_offline_rl_alone_is_the_same_run_whatever_model_there_could_be(llmrl_run, tmp_path):
    run = ["experiment=kalm/clevr_quick", *TINY, "method.imagined=[]"]
    assert llmrl_run(*run).code == 0
    again = llmrl_run(*run, "method.rollouts.model.model.sizes.layers=2", "method.rollouts.lag=true")
    assert again.code == 0 and "nothing to do" in again.out
    assert len(list((tmp_path / "outputs" / "kalm" / "kalm-bc" / "clevr_robot-base").iterdir())) == 1


@pytest.mark.parametrize(
    "change, told",
    [
        ("env.language=null", "its policy reads goals in words"),
        ("agent=dqn", "but agent=dqn by acting: use agent=bc, cql, bcq"),
        ("env=mujoco/hopper", "env.language: unknown key"),
        ("budget.paper_updates=null", "method=kalm trains offline: set budget.updates"),
        ("method.imagined=[rephrase,rephrase]", "method.imagined: names a tier twice"),
        ("env.language=minilmm", "words, minilm or huggingface:"),
        ("method.real_rollouts=160", "method.real_rollouts: must be a multiple of 80, the number of goals"),
        ("env.obs_velocity=true", "env.obs_velocity=true: the language model's states"),
        ("method.rollouts.model.model.encoder=minilmm", "method.rollouts.model.model.encoder: words, minilm or"),
        ("method.rollouts.model.model.encoder=huggingface:/no", "method.rollouts.model.model.encoder=huggingface:/no:"),
        ("method.rollouts.model.tasks=[1]", "method.rollouts.model.tasks: must be distinct"),
        ("method.data.rollouts=81", "method.data.rollouts: must be a multiple of 80, the number of goals"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_made(change, told, llmrl_run, tmp_path):
    others = [c for c in TINY if not (change == "agent=dqn" and c.startswith("agent."))]
    command = ["experiment=kalm/clevr_quick", *others, change]
    done = llmrl_run(*command)
    assert done.code == 2 and told in done.err, done.err
    assert not (tmp_path / "outputs" / "artifacts").exists()


def test_check_tries_all_stages(llmrl, tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    done = llmrl("check", "experiment=kalm/clevr_quick", *TINY)
    assert done.code == 0, done.err
    assert "20 updates" in done.out and "checkpoint: written, read back, equal" in done.out
    assert list(tmp_path.iterdir()) == [scratch]


def test_killed_while_the_language_model_learns_and_while_the_policy_does(process, llmrl_run, tmp_path):
    args = ["experiment=kalm/clevr_quick", *TINY, "method.rollouts.model.model.updates=100",
            "method.rollouts.model.written=1", "budget.paper_updates=2000", "budget.evaluations=1"]  # fmt: skip
    assert llmrl_run(*args, "compute.outputs=whole").code == 0
    for part in ("artifacts/kalm_model", "kalm"):
        run = process(*args, "compute.outputs=killed", "compute.checkpoint_every_s=0.1", before=CHILDREN)
        assert run.until(lambda part=part: below(tmp_path / "killed" / part, "manifest.json")), run.end().err
        assert run.send(signal.SIGKILL).code == -signal.SIGKILL
        assert not below(tmp_path / "killed" / part, "result.json")
    done = llmrl_run(*args, "compute.outputs=killed")
    assert done.code == 0, done.err
    compared = {
        "artifacts/kalm_model": ("weights.safetensors", "metrics.jsonl", "llm.jsonl"),
        "artifacts/kalm_rollouts": ("metrics.json",),
        "kalm": ("agent.pt", "metrics.jsonl", "eval.jsonl"),
    }
    for part, names in compared.items():
        for name in names:
            (killed,), (whole,) = (below(tmp_path / outputs / part, name) for outputs in ("killed", "whole"))
            assert killed.read_bytes() == whole.read_bytes(), killed


@pytest.mark.parametrize("policy", ["language_model", "noisy_greedy", "random"])
def test_controls_are_evaluated_on_every_tier(policy, llmrl_run, tmp_path):
    model = ["method.model.data.rollouts=80", *(f"method.model.model.{key}" for key in MODEL)]
    done = llmrl_run("experiment=kalm/policy", *WORDS, f"method.policy={policy}", "method.batch_size=2", *model)
    assert done.code == 0, done.err
    (file,) = below(tmp_path / "outputs" / "kalm", "eval.jsonl")
    rows = {row["policy"]: row for row in read_jsonl(file)}
    assert set(rows) == {"greedy", "greedy on rephrase", "greedy on easy", "greedy on hard"}
    assert rows["greedy on easy"]["lengths"] == [1, 1, 1]
    assert (tmp_path / "outputs" / "artifacts").exists() == (policy == "language_model")


@pytest.fixture
def clevr_config():
    return from_node(compose(["env=clevr_robot/base", "agent=fixed"])).env


def cases_of(config, tier, n):
    return [Case(s, clevr_robot.case_options(config, tier, seeding.generator(s, "options"))) for s in range(n)]


def test_playing_together_scores_as_playing_one_by_one(clevr_config):
    """The policy is a function of what it sees, so it plays the same in both."""

    def act(obs, rng):
        return (np.abs(obs[:, :10]).sum(1) * 1000).astype(int) % ACTIONS

    for tier in ("base", "easy", "hard"):
        suite = cases_of(clevr_config, tier, 6)
        one_by_one = evaluate(act, clevr_robot.make(clevr_config, "eval"), suite, 50, Stop())
        together = evaluate_together(act, SideBySide(clevr_config), suite, 50, Stop())
        assert together.row() == one_by_one.row()


def test_the_noisy_script_pushes_towards_every_kind_of_goal(clevr_config):
    rng = np.random.default_rng(0)
    shares = {}
    for tier in ("base", "easy", "hard"):
        for random in (0.4, 1.0):
            episodes = SideBySide(clevr_config)
            act = Noisy(episodes, random, rng)
            scores = evaluate_together(act, episodes, cases_of(clevr_config, tier, 30), 50, Stop())
            shares[tier, random] = np.mean(scores.successes["success"])
    for tier in ("base", "easy", "hard"):
        assert shares[tier, 0.4] > shares[tier, 1.0], shares
    assert shares["base", 0.4] > 0.6  # measured: 0.82 of 100


def test_an_llm_writes_more_sentences_and_only_those_that_fit_are_imagined_for(llmrl_run, tmp_path):
    done = llmrl_run("experiment=kalm/clevr_quick", *TINY, "method.rollouts.written=2", "method.imagined=[easy]")
    assert done.code == 0, done.err
    (made,) = below(tmp_path / "outputs" / "artifacts" / "kalm_rollouts", "metrics.json")
    assert read_json(made)["sentences"] == 400 + 2 * 20
    calls = [row for row in read_jsonl(made.parent / "llm.jsonl") if row.get("purpose") == "kalm.rephrase"]
    assert len(calls) == 20
    (run,) = below(tmp_path / "outputs" / "kalm", "llm.jsonl")
    assert read_jsonl(run) == read_jsonl(made.parent / "llm.jsonl")


def test_a_language_model_learns_sentences_that_an_llm_writes(llmrl_run, tmp_path):
    run = ["method=kalm/model", "env=clevr_robot/base", "method.data.rollouts=80", "log.progress=false",
           *(f"method.model.{key}" for key in MODEL)]  # fmt: skip
    made = {}
    for n in (0, 2):
        done = llmrl_run(*run, f"method.written={n}")
        assert done.code == 0, done.err
        (made[n],) = {
            path.parent for path in below(tmp_path / "outputs" / "artifacts" / "kalm_model", "model.json")
        } - {*made.values()}
    words = {n: set(read_json(path / "model.json")["words"]) for n, path in made.items()}
    assert {"dislike", "kind"} <= words[2] - words[0] and not (made[0] / "llm.jsonl").exists()
    calls = [row for row in read_jsonl(made[2] / "llm.jsonl") if row["kind"] == "call"]
    assert len(calls) == 2 * 80 and ["complain" in str(call["messages"]) for call in calls[:4]] == [False, True] * 2

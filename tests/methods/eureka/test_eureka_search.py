"""Eureka's search: what is asked, what is trained, what goes back to the LLM, and what is chosen. Answers and trainings
are made up."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import compose
from replies import reply
from wiring import wires

from llmrl.checks import ConfigError
from llmrl.config import from_node, identity
from llmrl.context import RunContext
from llmrl.methods.eureka import method as eureka
from llmrl.methods.eureka import search as eureka_search
from llmrl.methods.eureka.measure import fitness
from llmrl.methods.eureka.prompts import ten
from llmrl.methods.eureka.search import pearson
from llmrl.methods.search import candidates
from llmrl.methods.search.steps import real_steps
from llmrl.runs import seeding
from llmrl.runs.files import write_json
from llmrl.runs.stop import Stop

SMALL = ["method=eureka", "env=mujoco/half_cheetah", "agent=td3", "budget.env_steps=80", "eval.every=40",
         "method.search_env_steps=100", "method.search_evaluations=5", "method.search.k=2",
         "method.search.iterations=2", "method.search.states=5", "log.progress=false"]  # fmt: skip


def searching(*overrides, **changes):
    config = eureka.search_of(from_node(compose([*SMALL, *overrides])))
    return replace(config, method=replace(config.method, **changes))


class Answers:
    """In place of the LLM: the n-th program pays n times the velocity; `wrong` gives other answers by their index."""

    def __init__(self, wrong):
        self.asked, self.transcript, self.wrong = [], SimpleNamespace(events={}), wrong

    def ask(self, messages, *, purpose, index, **options):
        self.asked.append((purpose, index, messages))
        code = (
            f"def compute_reward(next_state):\n    v = {len(self.asked)}.0 * next_state[8]\n    return v, {{'v': v}}\n"
        )
        return reply(self.wrong.get(index, f"My reward.\n```python\n{code}```"))

    def event(self, purpose, index, kind, **facts):
        self.transcript.events[purpose, index, kind] = facts


class Search:
    """Runs at once. `progress`: {candidate "restart-iteration-sample": its evaluations, or why its training failed}."""

    def __init__(self, directory, monkeypatch, progress, *, wrong={}, overrides=(), **changes):  # noqa: B006
        self.directory, self.llm, self.starts = directory, Answers(wrong), []
        self.config = searching(*overrides, **changes)

        def run_all(directories, parallel, stop):
            self.starts.append([place.name for place in directories])
            for place in directories:
                made = progress.get(place.name, [0.0])
                if isinstance(made, str):
                    write_json(place / "status.json", {"status": "FAILED", "reason": made})
                    continue
                rows = [{"policy": "greedy", "env_steps": 10 * i, "returns": [0.0], "lengths": [10], "progress": [p]}
                        for i, p in enumerate(made, 1)]  # fmt: skip
                (place / "eval.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
                metrics = [{"kind": "train", "component/v": 0.5 * i, "reward_learned": 0.5 * i, "reward_human": -i}
                           for i in range(20)]  # fmt: skip
                metrics += [{"kind": "episode", "length": 10 + i} for i in range(3)]
                (place / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in metrics))
                write_json(place / "result.json", {"env_steps": 100, "updates": 90, "episodes": 7})
                write_json(place / "status.json", {"status": "DONE"})

        monkeypatch.setattr(candidates, "run_all", run_all)
        log = SimpleNamespace(timing=lambda row: None)
        context = RunContext(self.config, directory, Stop(), log, lambda *_: None)
        context.llm = self.llm
        self.result = eureka_search.EurekaSearch().run(context)
        self.found = self.result["eureka"]

    def messages(self, index):
        return next(messages for _, at, messages in self.llm.asked if at == index)


@wires("eureka/search.k", "eureka/search.iterations")
def test_all_samples_of_an_iteration_answer_the_same_messages(tmp_path, monkeypatch):
    search = Search(tmp_path, monkeypatch, {}, k=3)
    assert [index for _, index, _ in search.llm.asked] == [f"0/{i}/{k}" for i in range(2) for k in range(3)]
    first = search.messages("0/0/0")
    assert [m["role"] for m in first] == ["system", "user"] and search.messages("0/0/2") == first
    assert "state[8]: velocity of the torso along x" in first[1]["content"] and "action[5]" in first[1]["content"]
    assert "minus" not in first[1]["content"]  # of the human reward nothing is told
    assert search.starts == [["0-0-0", "0-0-1", "0-0-2"], ["0-1-0", "0-1-1", "0-1-2"]]


def test_the_best_answer_and_its_training_go_back_and_replace_what_was_told_before(tmp_path, monkeypatch):
    progress = {"0-0-0": [0.0, 1.0], "0-0-1": [0.0, 9.0, 4.0], "0-1-0": [2.0]}
    search = Search(tmp_path, monkeypatch, progress, iterations=3)
    for iteration, best in ((1, "0/0/1"), (2, "0/1/0")):
        messages = search.messages(f"0/{iteration}/0")
        assert [m["role"] for m in messages] == ["system", "user", "assistant", "user"]
        assert messages[:2] == search.messages("0/0/0")
        number = [index for _, index, _ in search.llm.asked].index(best) + 1
        assert f"v = {number}.0 * next_state[8]" in messages[2]["content"]
    told = search.messages("0/1/0")[3]["content"]
    assert "v: [0.00, 1.00, 2.00, 3.00, 4.00, 5.00, 6.00, 7.00, 8.00, 9.00], max 9.50, mean 4.75, min 0.00" in told
    assert "metres forward in an episode: [0.00, 9.00, 4.00], max 9.00, mean 4.33, min 0.00" in told
    assert "episode length: [10.00, 11.00, 12.00], max 12.00, mean 11.00, min 10.00" in told
    assert "the way forward stays near that of an agent which stands still" in told


def test_a_score_is_the_best_evaluation_and_the_best_of_all_iterations_is_chosen(tmp_path, monkeypatch):
    search = Search(tmp_path, monkeypatch, {"0-0-0": [1.0, 7.0, 2.0], "0-1-1": [6.0, 6.0]})
    assert search.found["chosen"] == "0/0/0" and search.found["score"] == 7.0
    assert "v = 1.0" in (tmp_path / "reward.py").read_text()
    (first, *_) = search.found["candidates"]
    assert first["correlation"] == pytest.approx(-1.0) and first["components"] == ["v"]
    assert search.result["env_steps_total"] == 400 and search.result["updates"] == 360


def test_samples_that_cannot_be_trained_with_are_not_asked_for_again(tmp_path, monkeypatch):
    wrong = {"0/0/0": "```python\ndef compute_reward(state):\n    return state[0]\n```", "0/0/1": "no code"}
    search = Search(
        tmp_path, monkeypatch, {"0-1-0": "its loss is not finite", "0-1-1": [3.0]}, wrong=wrong, iterations=3
    )
    assert search.starts[0] == []
    assert search.messages("0/1/0") == search.messages("0/0/0")  # nothing ran: the same messages once more, and counted
    assert len(search.messages("0/2/0")) == 4
    assert search.found["rejected"] == {"no_code": 1, "not_a_pair": 1}
    failed = next(c for c in search.found["candidates"] if c["index"] == "0/1/0")
    assert failed["score"] is None and "not finite" in failed["failed"]


def test_the_same_program_again_is_not_trained_again(tmp_path, monkeypatch):
    code = "```python\ndef compute_reward(state):\n    return state[8], {'v': state[8]}\n```"
    search = Search(tmp_path, monkeypatch, {}, wrong={"0/0/0": code, "0/0/1": f"Again: {code}"}, iterations=1)
    assert search.starts == [["0-0-0"]] and search.found["rejected"] == {"duplicate": 1}


@wires("eureka/search.restarts")
def test_a_restart_begins_from_the_first_messages(tmp_path, monkeypatch):
    search = Search(tmp_path, monkeypatch, {"0-0-0": [1.0], "1-1-0": [2.0]}, restarts=2)
    assert search.messages("1/0/0") == search.messages("0/0/0") and len(search.messages("1/1/0")) == 4
    assert search.found["chosen"] == "1/1/0" and len(search.llm.asked) == 8


def test_where_nothing_could_be_trained_with_it_is_said(tmp_path, monkeypatch):
    with pytest.raises(RuntimeError, match="nothing to choose.*llm.jsonl"):
        Search(tmp_path, monkeypatch, {f"0-{i}-{k}": "failed" for i in range(2) for k in range(2)})


@wires("eureka.search", "eureka.search_env_steps", "eureka.search_evaluations", "eureka/search.eval_seed",
       "eureka/search.seed", "eureka/search.states")  # fmt: skip
def test_what_a_search_is_given(tmp_path, monkeypatch):
    asked = []

    def steps(env, n, seed):
        asked.append((n, seed))
        return real_steps(env, n, seed)

    monkeypatch.setattr(eureka_search, "real_steps", steps)
    own = ["method.search_env_steps=120", "method.search_evaluations=4", "method.search.seed=5"]
    search = Search(tmp_path, monkeypatch, {}, overrides=[*own, "method.search.eval_seed=7"], states=9, iterations=1)
    assert asked == [(9, 5)]
    child = json.loads((tmp_path / "candidates" / "0-0-0" / "config.json").read_text())
    assert child["seed"] == seeding.integer(5, "candidate", "0-0-0") and child["eval"]["seed"] == 7
    assert child["budget"]["env_steps"] == 120 and child["eval"]["every"] == 30
    assert search.config.seed == 5


def test_a_candidate_trains_plainly_in_its_reward_on_cases_of_the_search(tmp_path, monkeypatch):
    Search(tmp_path, monkeypatch, {})
    assert searching().log.every != 1  # the user's
    children = [json.loads((tmp_path / "candidates" / name / "config.json").read_text()) for name in ("0-0-0", "0-0-1")]
    for child in children:
        assert child["choices"]["method"] == "vanilla" and child["choices"]["wrapper"] == "eureka"
        assert child["wrapper"]["reward"] == "program" and child["eval"]["seed"] == 1000
        assert child["budget"]["env_steps"] == 100 and child["log"]["every"] == 1
    assert children[0]["seed"] != children[1]["seed"]


@wires("eureka/search.context")
def test_the_environments_code_can_be_shown_in_place_of_the_sheet(tmp_path, monkeypatch):
    search = Search(tmp_path, monkeypatch, {}, context="code")
    shown = search.messages("0/0/0")[1]["content"]
    assert (
        "def _get_obs(self)" in shown
        and "state[8]: velocity" not in shown
        and "reward" not in shown.lower().replace("reward function", "")
    )


def test_goal_tasks_are_judged_by_success(tmp_path, monkeypatch):
    context = RunContext(searching("env=robotics/fetch_reach"), tmp_path, Stop(), None, lambda *_: None)
    context.llm = Answers({})
    search = eureka_search._Search(context)
    assert search.measure == "success_official"
    write = tmp_path / "run"
    write.mkdir()
    rows = [{"policy": "random", "env_steps": 0, "success_official": [True, True]},
            {"policy": "greedy", "env_steps": 0, "success_official": [True, True]},
            {"policy": "greedy", "env_steps": 9, "success_official": [True, False, False, False]}]  # fmt: skip
    (write / "eval.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert fitness(write) == [0.25]  # what no training has shaped does not count


def test_what_is_told_is_ten_points_of_a_training():
    assert ten(list(range(100))) == list(range(0, 100, 10)) and ten([1.0, 2.0]) == [1.0, 2.0]
    assert ten(list(range(19))) == [0, 1, 3, 5, 7, 9, 11, 13, 15, 17]
    assert pearson([0, 1, 2], [0, 2, 1]) == pytest.approx(0.5)
    assert pearson([0, 1], [0, 2]) is None and pearson([1, 1, 1], [0, 2, 1]) is None
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=50), rng.normal(size=50)
    assert pearson(x, y) == pytest.approx(np.corrcoef(x, y)[0, 1])


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (["env=classic/pendulum"], "method=eureka does not take env=classic/pendulum"),
        (["env=mujoco/humanoid_standup"], "env.task.observation|neither of success nor"),
    ],
)
def test_a_task_that_does_not_fit_is_refused_before_the_llm_is_asked(tmp_path, overrides, text):
    with pytest.raises(ConfigError, match=text):
        context = RunContext(searching(*overrides), tmp_path, Stop(), None, lambda *_: None)
        context.llm = llm = Answers({})
        try:
            eureka_search._Search(context)
        finally:
            assert llm.asked == []


def test_a_wrapper_of_the_run_is_refused(llmrl_run, tmp_path):
    done = llmrl_run(*SMALL, "wrapper=eureka")
    assert done.code == 2 and "method=eureka finds its wrapper by itself: use wrapper=none" in done.err
    assert not (tmp_path / "outputs").exists()


def test_a_sheet_of_another_length_than_the_state_is_refused(tmp_path):
    config = searching()
    task = replace(config.env.task, observation=config.env.task.observation[:3])
    context = RunContext(replace(config, env=replace(config.env, task=task)), tmp_path, Stop(), None, lambda *_: None)
    with pytest.raises(ConfigError, match="has 3 lines, the state of .* has 17 dimensions"):
        eureka_search._Search(context)


def test_the_baselines_differ_from_plain_training_in_their_reward_alone():
    human, sparse, plain = (
        from_node(compose([f"experiment=eureka/{name}", "method=vanilla"])) for name in ("human", "sparse", "mujoco")
    )
    assert identity(human) | {"wrapper": 0, "name": 0} == identity(sparse) | {"wrapper": 0, "name": 0}
    assert {**identity(plain), "name": 0} == {k: v for k, v in {**identity(human), "name": 0}.items() if k != "wrapper"}
    assert (human.wrapper.reward, sparse.wrapper.reward) == ("human", "sparse")


def test_all_seeds_share_the_search_and_its_cost_is_counted(llmrl_run, tmp_path, children_here):
    tiny = [*SMALL, "env.max_episode_steps=10", "agent.hidden=[8]", "agent.batch_size=4", "agent.learning_starts=8",
            "agent.random_steps=8", "budget.env_steps=20", "eval.every=10", "eval.episodes=1", "eval.max_steps=10",
            "method.search_env_steps=20", "method.search_evaluations=1", "method.search.iterations=1"]  # fmt: skip
    for seed in (0, 1):
        done = llmrl_run(*tiny, f"seed={seed}")
        assert done.code == 0, done.err
        assert "rewards trained with" in done.out and "best evaluation" in done.out
    (search,) = (tmp_path / "outputs" / "artifacts" / "eureka").iterdir()
    runs = [json.loads(path.read_text()) for path in (tmp_path / "outputs" / "default").rglob("result.json")]
    assert len(runs) == 2 and {run["eureka"]["search"] for run in runs} == {f"outputs/artifacts/eureka/{search.name}"}
    assert all(run["env_steps_total"] == 20 + 40 and run["llm"]["calls"] == 2 for run in runs)

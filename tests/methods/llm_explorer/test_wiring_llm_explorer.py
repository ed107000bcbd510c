"""Every key of LLM-Explorer, method=offline and method=pretrained does what it says, and no method is left out."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import test_eureka_search  # noqa: F401 (Eureka's keys)
import test_wiring_explorllm  # noqa: F401 (the keys of the other methods)
import test_wiring_kalm  # noqa: F401
import test_wiring_lesr  # noqa: F401
from replies import reply
from test_llm_explorer import BOX, DISCRETE, TASK, TASK_2D, Inner, settings
from wiring import unwired, wires

from llmrl.conf_files import options
from llmrl.contracts.explorer import Clock, EpisodeSummary
from llmrl.methods.llm_explorer.method import LLMExplorer
from llmrl.methods.plain import offline, pretrained


def test_every_key_of_every_method_has_a_test():
    assert unwired(*options("method")) == set()


class Says:
    """A language model that gives one answer, or one after the other."""

    def __init__(self, *answers: str) -> None:
        self.answers, self.asked = list(answers), []

    def ask(self, messages: list, *, purpose: str, index: str, schema: Any = None, **options: Any) -> Any:
        self.asked.append(SimpleNamespace(purpose=purpose.removeprefix("llm_explorer."), index=index, schema=schema,
                                          text="\n".join(m["content"] for m in messages)))  # fmt: skip
        return reply(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])

    def event(self, purpose: str, index: str, kind: str, **facts: Any) -> None:
        pass


P = '{"0": 0.5, "1": 0.5, "2": 0.0}'
ACTIONS = np.arange(300) % 3  # 0, 1, 2, 0, …


def explored(*answers: str, space: gym.Space = DISCRETE, episodes: Sequence[int] = (1,), actions=ACTIONS, **changes):
    """(the explorer, the LLM) after so many ended episodes."""
    llm = Says(*answers or (P,))
    task = TASK_2D if space is BOX else TASK
    inner = Inner("distribution" if space is DISCRETE else "bias")
    wrapped = LLMExplorer(inner, llm, settings(**changes), task, space, seed=3)
    for ended in episodes:
        last = EpisodeSummary(ended - 1, 7.5, len(actions), actions)
        wrapped.on_episode_start(Clock(episodes=ended), ended, last)
    return wrapped, llm


def purposes(llm):
    return [call.purpose for call in llm.asked]


def shown(llm):
    """The actions in the first prompt."""
    lists = [line for line in llm.asked[0].text.splitlines() if line.replace(", ", "").isdigit() and ", " in line]
    return [int(action) for action in lists[0].split(", ")]


@wires("llm_explorer.k")
@pytest.mark.parametrize("k, refreshes", [(1, [1, 2, 3, 4, 5, 6, 7]), (2, [2, 4, 6]), (3, [3, 6])])
def test_how_often_it_asks(k, refreshes):
    _, llm = explored(P, episodes=range(1, 8), k=k)
    assert [int(call.index.partition("/")[0]) for call in llm.asked if call.purpose == "status"] == refreshes


@wires("llm_explorer.m", "llm_explorer.sampler")
def test_which_actions_it_shows():
    assert len(shown(explored(m=7)[1])) == 7 and len(shown(explored(m=250)[1])) == 250
    long = np.concatenate([np.zeros(3, int), np.ones(100, int), np.full(97, 2)])
    assert shown(explored(m=4, sampler="linspace", actions=long)[1]) == [0, 1, 2, 2]
    assert shown(explored(m=99, sampler="authors_stride", actions=long)[1])[:2] == [0, 1]  # from 200 mod 99 on, by 2
    random = shown(explored(m=50, sampler="random", actions=long)[1])
    assert random == sorted(random) and random != shown(explored(m=50, sampler="linspace", actions=long)[1])


@wires("llm_explorer.calls")
def test_one_call_or_two():
    assert len(purposes(explored(calls=1)[1])) == 1
    two = purposes(explored(calls=2)[1])
    assert two[0] == "status" and len(two) == 2


@wires("llm_explorer.prompt")
def test_what_is_told_of_the_task():
    for prompt, told in (("full", True), ("name", False)):
        _, llm = explored(prompt=prompt)
        assert ("walk along a corridor" in llm.asked[0].text) is told and "corridor" in llm.asked[0].text


@wires("llm_explorer.tell")
def test_what_is_told_of_a_continuous_task():
    for tell, told in (("authors", False), ("reward", True)):
        _, llm = explored('{"0": 0.0, "1": 0.0}', space=BOX, actions=np.zeros((9, 2)), tell=tell)
        assert ("The reward: 1 at the door" in llm.asked[0].text) is told


@wires("llm_explorer.analysis")
def test_whether_the_numbers_come_after_an_analysis():
    for analysis in (True, False):
        _, llm = explored(analysis=analysis)
        status, strategy = llm.asked
        assert ('{"analysis": "...", ' in strategy.text) is analysis and status.schema is None
        assert list(strategy.schema.model_fields)[0] == ("analysis" if analysis else "number_0")


@wires("llm_explorer.parser")
def test_how_an_answer_is_read():
    """A minus sign is lost to the authors' regular expression, and an integer is not seen."""
    answer = '{"0": -0.25, "1": 0.125}'
    assert explored(answer, space=BOX, actions=np.zeros((9, 2)))[0].vector.tolist() == [-0.25, 0.125]
    authors, llm = explored(answer, space=BOX, actions=np.zeros((9, 2)), parser="authors_regex")
    assert authors.vector.tolist() == [0.25, 0.125] and not any(call.schema for call in llm.asked)


@wires("llm_explorer.floor")
def test_the_floor():
    np.testing.assert_allclose(explored(floor=0.3)[0].vector, [0.45, 0.45, 0.1])


@wires("llm_explorer.bias_limit")
@pytest.mark.parametrize("limit, bias", [(None, [-3.0, 0.1]), (0.5, [-0.2, 0.1]), (0.1, [-0.04, 0.04])])
def test_the_largest_bias_is_a_share_of_half_the_range(limit, bias):
    wrapped, _ = explored('{"0": -3.0, "1": 0.1}', space=BOX, actions=np.zeros((9, 2)), bias_limit=limit)
    np.testing.assert_allclose(wrapped.inner.bias, bias)


@wires("llm_explorer.max_tries", "llm_explorer.on_failure")
def test_where_no_answer_can_be_used():
    for tries, on_failure, left in ((2, "uniform", None), (4, "keep_last", [0.5, 0.5, 0.0])):
        bad = [f"{P} but no, {n}" + "{" for n in range(9)]
        wrapped, llm = explored("well", P, "well", *bad, episodes=(1, 2), max_tries=tries, on_failure=on_failure)
        assert len(llm.asked) == 2 + 1 + tries and wrapped.failed_refreshes == 1 and wrapped.refreshes == 2
        assert (None if left is None else wrapped.inner.distribution.tolist()) == left
        assert sum(wrapped.rejected.values()) == tries


@wires("llm_explorer.answer")
@pytest.mark.parametrize(
    "answer, calls, vectors",
    [
        ("llm", 6, [[0.5, 0.5, 0.0]] * 3),
        ("uniform", 0, [[1 / 3] * 3] * 3),
        ("constant", 1, [[0.5, 0.5, 0.0]] * 3),
        ("last_frequencies", 0, [[0.25, 0.0, 0.75]] * 3),
    ],
)
def test_whose_exploration_it_is(answer, calls, vectors):
    wrapped, llm = explored(answer=answer, episodes=(1, 2, 3), actions=np.array([0, 2, 2, 2]))
    assert len(llm.asked) == calls and wrapped.refreshes == (1 if answer == "constant" else 3)
    np.testing.assert_allclose(wrapped.vector, vectors[-1])


@wires("llm_explorer.answer")
def test_the_numbers_of_an_answer_for_other_actions():
    found = {tuple(explored(answer="shuffled", episodes=(n,))[0].vector.tolist()) for n in range(1, 20)}
    assert found == {(0.5, 0.5, 0.0), (0.5, 0.0, 0.5), (0.0, 0.5, 0.5)}


def test_the_controls_in_continuous_actions():
    actions = np.array([[0.25, -0.5], [0.75, 0.0]])
    for answer, bias in (("uniform", [0, 0]), ("last_frequencies", [0.5, -0.25])):
        np.testing.assert_allclose(explored(answer=answer, space=BOX, actions=actions)[0].inner.bias, bias)


@wires("llm_explorer.asynchronous")
def test_whether_training_waits(monkeypatch):
    jobs = []

    class Job:
        def __init__(self, llm, purpose, index, work):
            jobs.append(index)
            self.work = work

        def ready(self, env_steps):
            return self.work() if env_steps >= 40 else None

        def raise_failure(self):
            pass

    monkeypatch.setattr("llmrl.methods.llm_explorer.method.Job", Job)
    wrapped, llm = explored(asynchronous=True, episodes=(1, 2))
    assert jobs == ["1"] and wrapped.inner.distribution is None and llm.asked == []
    wrapped.inner.propose = lambda *args: "proposed"
    for env_steps, vector in ((39, None), (40, [0.5, 0.5, 0.0])):
        assert wrapped.propose(None, None, Clock(env_steps=env_steps), [], None) == "proposed"
        assert (None if vector is None else wrapped.vector.tolist()) == vector
    assert wrapped.refreshed_at == 1 and wrapped.pending is None
    assert explored(asynchronous=False)[0].vector is not None and jobs == ["1"]


def test_how_far_an_exploration_is_from_a_plain_one():
    wrapped, _ = explored('{"0": 0.5, "1": 0.25, "2": 0.25}')
    assert wrapped.metrics()["exploration_entropy"] == pytest.approx(1.5 * np.log(2))
    plain, _ = explored(episodes=())
    assert plain.metrics()["exploration_entropy"] == pytest.approx(np.log(3))
    wrapped, _ = explored('{"0": -0.3, "1": 0.4}', space=BOX, actions=np.zeros((9, 2)))
    assert wrapped.metrics()["bias_norm"] == pytest.approx(0.5)


# --- from a dataset, and from another run ---------------------------------------------------------------------------


@wires("offline.dataset", "offline.timeouts")
def test_what_offline_rl_learns_from(tmp_path, monkeypatch):
    loaded, noted, given = [], [], []

    class Data(SimpleNamespace):
        def __len__(self):
            return 7

    data = Data(returns=np.array([1.0, 5.0]))
    monkeypatch.setattr(offline, "minari_file", lambda name: f"file of {name}")
    monkeypatch.setattr(offline, "load_minari", lambda name, *, timeouts: loaded.append((name, timeouts)) or data)
    agent = SimpleNamespace(learns_from="dataset", source=lambda *parts: given.extend(parts) or "source")
    for timeouts in ("truncated", "terminated"):
        context = SimpleNamespace(
            cfg=SimpleNamespace(method=offline.Config(dataset="mine", timeouts=timeouts)), agent=lambda: agent,
            note=lambda *both: noted.append(both), train_offline=lambda *both: {"trained": both},
        )  # fmt: skip
        result = offline.Offline().run(context)
        assert loaded[-1] == ("mine", timeouts) and noted[-1][0] == "file of mine" and given[-1] is data
        assert result["offline"] == {"dataset": "mine", "transitions": 7, "episodes": 2, "return_mean": 3.0}
        assert result["trained"] == (agent, "source")


@wires("pretrained.run")
def test_whose_agent_is_played():
    played = []
    context = SimpleNamespace(
        cfg=SimpleNamespace(method=pretrained.Config(run="runs/its"), wrapper="its own"), env=lambda role, _: role,
        trained=lambda directory, env: ((str(directory), env), Clock(5, 4, 3)),
        evaluate=lambda agent, clock, _, *, end: played.append((agent, clock, end)),
    )  # fmt: skip
    result = pretrained.Pretrained().run(context)
    assert played == [(("runs/its", "eval"), Clock(5, 4, 3), True)]
    assert result["pretrained"] == {"run": "runs/its", "env_steps": 5, "updates": 4, "episodes": 3}


def test_rejected_answers_of_all_refreshes_are_counted():
    wrapped, _ = explored("x {", "y {", "z {", episodes=(1, 2, 3), calls=1, max_tries=1)
    assert sum(wrapped.rejected.values()) == wrapped.failed_refreshes == wrapped.refreshes == 3

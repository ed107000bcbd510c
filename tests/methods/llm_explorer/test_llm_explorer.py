"""LLM-Explorer: when it asks, what it tells, what it makes of answers, and what is left of it after an interruption."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import yaml
from llm_server import HANG, Server
from numpy.typing import NDArray
from pydantic import TypeAdapter
from test_llm_client import client, config, hosted

from llmrl.checks import ConfigError
from llmrl.contracts.explorer import Clock, EpisodeSummary, Explorer
from llmrl.explore.unchanged import Unchanged
from llmrl.llm.client import LLM, LLMUnavailable
from llmrl.methods.llm_explorer.method import Config, LLMExplorer, LLMExplorerMethod, sample_actions
from llmrl.methods.llm_explorer.prompts import task_text

YAML = Path(__file__).parents[3] / "conf" / "method" / "llm_explorer.yaml"
TASK = SimpleNamespace(
    name="toy/corridor", description="walk along a corridor", actions=("stay", "left", "right"),
    reward="1 at the door", end="at the door", goal="reach the door",
)  # fmt: skip
TASK_2D = SimpleNamespace(**vars(TASK) | {"actions": ("push, -0.4 to 0.4", "turn, -0.4 to 0.4")})
DISCRETE = gym.spaces.Discrete(3)
BOX = gym.spaces.Box(-0.4, 0.4, (2,))


class Inner(Explorer):
    """An explorer that can be given a distribution or a bias."""

    explores = True

    def __init__(self, shaped_by: Any = "distribution") -> None:
        self.shaped_by = shaped_by
        self.distribution: NDArray | None = None
        self.bias: NDArray | None = None
        self.starts = 0

    def on_episode_start(self, *args: Any) -> None:
        self.starts += 1

    def propose(self, obs: Any, policy: Any, *args: Any) -> NDArray:
        return policy()

    def metrics(self) -> dict[str, float]:
        return {"epsilon": 0.5}

    def state_dict(self) -> dict:
        return {"starts": self.starts}

    def load_state_dict(self, state: dict) -> None:
        self.starts = state["starts"]


def settings(**changes: Any) -> Config:
    return TypeAdapter(Config).validate_python(yaml.safe_load(YAML.read_text()) | changes)


def explorer(llm: LLM, space: gym.Space = DISCRETE, **changes: Any) -> LLMExplorer:
    inner, task = (Inner("bias"), TASK_2D) if space is BOX else (Inner(), TASK)
    return LLMExplorer(inner, llm, settings(**changes), task, space, seed=3)


def episode(number: int, length: int = 150, space: gym.Space = DISCRETE) -> EpisodeSummary:
    rng = np.random.default_rng(number)
    shape = (length, 3) if isinstance(space, gym.spaces.Discrete) else (length,)
    actions = rng.dirichlet(np.ones(3), 1) if len(shape) == 2 else rng.uniform(-0.4, 0.4, (length, 2))
    actions = rng.choice(3, length, p=actions[0]) if len(shape) == 2 else actions
    return EpisodeSummary(number, 10.0 * number, length, actions)


def start(wrapped: LLMExplorer, episodes: int, last: EpisodeSummary | None = None, space: gym.Space = DISCRETE) -> None:
    """Episode number `episodes` starts, in one environment."""
    last = last or (episode(episodes - 1, space=space) if episodes else None)
    wrapped.on_episode_start(Clock(env_steps=150 * episodes, episodes=episodes), episodes, last)


def asked(llm: LLM) -> list[tuple[str, str]]:
    return [(purpose.removeprefix("llm_explorer."), index) for purpose, index in llm.transcript.calls]


def test_the_first_k_episodes_are_plain_and_then_it_asks_every_k(tmp_path: Path) -> None:
    llm = client(tmp_path, config())
    wrapped = explorer(llm, k=2)
    vectors = []
    for number in range(6):
        start(wrapped, number)
        vectors.append(wrapped.inner.distribution)
    assert vectors[0] is None and vectors[1] is None
    assert vectors[2] is vectors[3] and vectors[4] is vectors[5]
    assert vectors[2].tolist() != vectors[4].tolist()
    assert asked(llm) == [("status", "2/0"), ("strategy", "2/0"), ("status", "4/0"), ("strategy", "4/0")]
    assert wrapped.metrics()["llm_refreshes"] == 2 and wrapped.metrics()["epsilon"] == 0.5


def test_several_environments_neither_double_nor_lose_a_refresh(tmp_path: Path) -> None:
    llm = client(tmp_path, config())
    wrapped = explorer(llm, k=4)
    for ended in (0, 0, 3, 5, 5, 7):  # two episodes ended at once: the count goes from 3 to 5
        wrapped.on_episode_start(Clock(episodes=ended), 9, episode(ended) if ended else None)
    assert asked(llm) == [("status", "5/0"), ("strategy", "5/0")]


def test_the_prompts_tell_the_task_the_return_and_the_actions_and_nothing_of_epsilon(tmp_path: Path) -> None:
    llm = client(tmp_path, config())
    start(explorer(llm, m=5), 1, EpisodeSummary(0, -7.25, 4, np.array([0, 2, 2, 1])))
    (system, user), (_, user_2) = (call["messages"] for call in llm.transcript.calls.values())
    for text in ("walk along a corridor", "2: right", "1 at the door", "reach the door"):
        assert text in system["content"]
    assert "reward of -7.25" in user["content"] and "\n0, 2, 2, 1\n" in user["content"]
    assert "-7.25" in user_2["content"]  # through the description alone
    assert "0, 2, 2, 1" not in user_2["content"]
    assert '{"0": probability, "1": probability, "2": probability}' in user_2["content"]
    assert "$" not in str(llm.transcript.calls) and "epsilon" not in str(llm.transcript.calls)


def test_continuous_actions_are_rounded_and_the_bias_reaches_the_explorer(tmp_path: Path) -> None:
    with Server("a description", "{0: -0.05, 1: 9}") as server:
        llm = client(tmp_path, hosted(server))
        wrapped = explorer(llm, BOX, bias_limit=0.5)
        start(wrapped, 1, EpisodeSummary(0, 1.0, 2, np.array([[0.12345, -0.2], [-0.00001, 0.4]])), BOX)
        assert "\n[0.123, -0.2], [0.0, 0.4]\n" in server.requests[0]["messages"][1]["content"]
    np.testing.assert_allclose(wrapped.inner.bias, [-0.05, 0.5 * 0.4])
    assert wrapped.metrics()["bias_norm"] == pytest.approx(np.hypot(0.05, 0.2))


def test_one_stage_asks_once_with_episode_and_request_together(tmp_path: Path) -> None:
    for space in (DISCRETE, BOX):
        llm = client(tmp_path / str(space), config())
        wrapped = explorer(llm, space, calls=1)
        start(wrapped, 1, space=space)
        assert asked(llm) == [("strategy_directly", "1/0")]
        assert wrapped.vector is not None


BAD = {
    "empty": None,
    "truncated": '{"0": 0.5, "1": 0.',
    "not_json": "Go right.",
    "wrong_length": "{0: 0.5, 1: 0.5}",
    "not_finite": "{0: NaN, 1: 0.5, 2: 0.5}",
    "negative": "{0: -0.5, 1: 1.0, 2: 0.5}",
    "all_zero": "{0: 0, 1: 0, 2: 0}",
}


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_answer_is_named_recorded_and_asked_for_again(tmp_path: Path, reason: str) -> None:
    with Server("a description", BAD[reason], "{0: 0.5, 1: 0.25, 2: 0.25}") as server:
        llm = client(tmp_path, hosted(server))
        wrapped = explorer(llm)
        start(wrapped, 1)
    assert wrapped.inner.distribution.tolist() == [0.5, 0.25, 0.25]
    assert wrapped.usage() == {"refreshes": 1, "failed_refreshes": 0, "rejected": {reason: 1}}
    assert asked(llm) == [("status", "1/0"), ("strategy", "1/0"), ("strategy", "1/1")]
    assert llm.transcript.events["llm_explorer.strategy", "1/0", "rejected"]["reason"] == reason


def test_an_empty_description_is_asked_for_again(tmp_path: Path) -> None:
    with Server(None, "a description", "{0: 1, 1: 0, 2: 0}") as server:
        wrapped = explorer(client(tmp_path, hosted(server)))
        start(wrapped, 1)
    assert wrapped.inner.distribution.tolist() == [1, 0, 0]
    assert wrapped.usage()["rejected"] == {"empty": 1}


@pytest.mark.parametrize(("on_failure", "left"), [("uniform", None), ("keep_last", [0.5, 0.25, 0.25])])
def test_when_no_answer_can_be_used(tmp_path: Path, on_failure: str, left: list | None) -> None:
    with Server("a description", "{0: 0.5, 1: 0.25, 2: 0.25}", "a description", "no idea") as server:
        wrapped = explorer(client(tmp_path, hosted(server)), on_failure=on_failure, max_tries=3)
        start(wrapped, 1)
        start(wrapped, 2)
    distribution = wrapped.inner.distribution
    assert (distribution if distribution is None else distribution.tolist()) == left
    assert wrapped.usage() == {"refreshes": 2, "failed_refreshes": 1, "rejected": {"not_json": 1, "repeated": 1}}
    assert wrapped.metrics()["llm_failed_refreshes"] == 1


def test_a_refresh_that_is_cut_short_changes_nothing_and_a_resumed_run_pays_only_for_the_rest(tmp_path: Path) -> None:
    with Server("a description", "{0: 1, 1: 0, 2: 0}", "another one", "{0: 1}", 500, HANG) as server:
        wrapped = explorer(client(tmp_path, hosted(server)))
        start(wrapped, 1)
        saved = wrapped.state_dict()
        server.behaviours[-1] = 401
        with pytest.raises(LLMUnavailable):
            start(wrapped, 2)
        np.testing.assert_equal(wrapped.state_dict(), saved)
        calls = len(server.requests)
        server.behaviours = ["{0: 0, 1: 0, 2: 1}"]
        resumed = explorer(client(tmp_path, hosted(server)))
        resumed.load_state_dict(saved)
        start(resumed, 2)
        assert len(server.requests) == calls + 1
    assert resumed.inner.distribution.tolist() == [0, 0, 1]
    assert resumed.usage() == {"refreshes": 2, "failed_refreshes": 0, "rejected": {"wrong_length": 1}}
    assert resumed.inner.starts == 2


def test_a_run_that_starts_again_writes_no_line_twice(tmp_path: Path) -> None:
    llm = client(tmp_path, config())
    for number in range(4):
        start(explorer(llm), number)
    before = (tmp_path / "llm.jsonl").read_bytes()
    llm = client(tmp_path, config())
    for number in range(4):
        start(explorer(llm), number)
    assert (tmp_path / "llm.jsonl").read_bytes() == before


def test_a_replay_gives_the_same_exploration_and_the_same_bytes(tmp_path: Path) -> None:
    with Server("words", "none", "{0: 0.1, 1: 0.2, 2: 0.7}", 500, "words", "{0: 0.3, 1: 0.3, 2: 0.4}") as server:
        live = explorer(client(tmp_path / "live", hosted(server)))
        for number in (1, 2):
            start(live, number)
    again = explorer(client(tmp_path / "replay", dataclasses.replace(hosted(server), replay=str(tmp_path / "live"))))
    for number in (1, 2):
        start(again, number)
    assert again.vector.tolist() == live.vector.tolist()
    assert (tmp_path / "replay/llm.jsonl").read_bytes() == (tmp_path / "live/llm.jsonl").read_bytes()


def test_the_floor_mixes_in_the_uniform_distribution(tmp_path: Path) -> None:
    with Server("words", "{0: 1, 1: 0, 2: 0}") as server:
        wrapped = explorer(client(tmp_path, hosted(server)), floor=0.3)
        start(wrapped, 1)
    np.testing.assert_allclose(wrapped.vector, [0.8, 0.1, 0.1])
    assert wrapped.metrics()["exploration_entropy"] == pytest.approx(-(0.8 * np.log(0.8) + 0.2 * np.log(0.1)))


def test_scripted_prefers_what_was_rare_whatever_the_action_is(tmp_path: Path) -> None:
    llm = client(tmp_path, config())
    for number, rare in enumerate((0, 1, 2), start=1):
        actions = np.array([a for a in range(3) if a != rare] * 60)
        wrapped = explorer(llm)
        start(wrapped, number, EpisodeSummary(0, 0.0, len(actions), actions))
        assert wrapped.vector.argmax() == rare
    wrapped = explorer(llm, BOX)
    start(wrapped, 4, EpisodeSummary(0, 0.0, 100, np.tile([0.3, -0.2], (100, 1))), BOX)
    assert wrapped.vector[0] < 0 < wrapped.vector[1] and np.abs(wrapped.vector).max() < 0.05


def test_samplers_take_m_actions_in_order_and_short_episodes_whole() -> None:
    for length in range(1, 400, 7):
        actions = np.arange(length)
        for sampler in ("random", "linspace", "authors_stride"):
            sample = sample_actions(actions, 100, sampler, np.random.default_rng(0))  # type: ignore[arg-type]
            assert len(sample) == min(100, length)
            assert (np.diff(sample) > 0).all()
    rng = np.random.default_rng(0)
    assert sample_actions(np.arange(199), 100, "authors_stride", rng).tolist() == list(range(99, 199))
    assert sample_actions(np.arange(1000), 3, "linspace", rng).tolist() == [0, 500, 999]
    means = [sample_actions(np.arange(1000), 100, "random", rng).mean() for _ in range(200)]
    assert np.mean(means) == pytest.approx(499.5, abs=10)


def test_a_task_without_text_is_refused_by_full_and_told_by_name() -> None:
    bare = SimpleNamespace(name="toy/bare", description=None, actions=None, reward=None, end=None, goal=None)
    with pytest.raises(ConfigError, match=r"toy/bare has no description, actions.*method.prompt=name"):
        task_text(bare, "full")
    assert "toy/bare" in task_text(bare, "name")


def test_a_task_text_with_other_actions_than_the_environment_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="describes 3 actions of toy/corridor, but the environment has 18"):
        explorer(client(tmp_path, config()), gym.spaces.Discrete(18))


@pytest.mark.parametrize(("answer", "vector"), [("uniform", [1 / 3] * 3), ("last_frequencies", [0.5, 0, 0.5])])
def test_a_control_that_asks_nobody_reads_no_llm_and_no_task_text(answer: str, vector: list) -> None:
    bare = SimpleNamespace(name="toy/bare", description=None, actions=None, reward=None, end=None, goal=None)
    wrapped = LLMExplorer(Inner(), None, settings(answer=answer), bare, DISCRETE, seed=3)
    start(wrapped, 1, EpisodeSummary(0, 1.0, 4, np.array([0, 2, 2, 0])))
    np.testing.assert_allclose(wrapped.inner.distribution, vector)
    assert LLMExplorerMethod.reads(settings(answer=answer)) == ()
    assert (
        LLMExplorerMethod.reads(settings(answer="constant"))
        == LLMExplorerMethod.reads(settings())
        == ("llm", "env.task")
    )


def test_an_agent_whose_exploration_cannot_be_shaped_is_refused(tmp_path: Path) -> None:
    agent = SimpleNamespace(explorer=Unchanged, action_space=DISCRETE)
    cfg = SimpleNamespace(method=settings(), env=SimpleNamespace(task=TASK), seed=3)
    ctx = SimpleNamespace(agent=lambda: agent, llm=client(tmp_path, config()), cfg=cfg)
    with pytest.raises(ConfigError, match="Unchanged, which has no distribution"):
        LLMExplorerMethod().run(ctx)
    agent.explorer = Inner
    ctx.train = lambda agent, explorer: {"wrapped": isinstance(explorer, LLMExplorer), "env_steps": 0}
    result = LLMExplorerMethod().run(ctx)
    assert result["wrapped"] and result["llm_explorer"]["refreshes"] == 0

"""LESR's prompts, and the scripted answers to them."""

import json
import re
from dataclasses import dataclass, field
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import compose

from llmrl.build import make_env
from llmrl.config import from_node
from llmrl.llm import scripted
from llmrl.llm.program_text import Rejected, fingerprint
from llmrl.methods.lesr import scripted as scripted_lesr
from llmrl.methods.lesr.program import defined, extract, validate
from llmrl.methods.lesr.prompts import Asker, Round, without_paths
from llmrl.methods.search.steps import real_steps

TASKS = {
    "mujoco/hopper": 11, "mujoco/half_cheetah": 17, "mujoco/walker2d": 17, "mujoco/swimmer": 8, "mujoco/ant": 105,
    "mujoco/humanoid": 348, "mujoco/walker2d_jump": 17, "mujoco/walker2d_split": 17, "classic/pendulum": 3,
    "classic/cart_pole": 4, "robotics/fetch_reach": 13,
    "robotics/fetch_push": 28, "robotics/ant_maze_open": 29, "robotics/ant_maze_large": 29,
    "robotics/adroit_hand_door": 39, "robotics/adroit_hand_hammer": 46,
}  # fmt: skip
DESCRIBED = list(TASKS)


@dataclass
class Candidate:
    reply: str
    code: str
    score: float = 1.0
    failed: str = ""
    features: int = 2
    lipschitz: list[float] = field(default_factory=list)
    ignored: list[int] = field(default_factory=list)


@cache
def config_of(env: str):
    agent = "dqn" if env == "classic/cart_pole" else "td3"
    return from_node(compose([f"env={env}", f"agent={agent}"]))


def asker(env: str = "mujoco/hopper", **options) -> Asker:
    config = config_of(env)
    settings = compose(["method=lesr/search"])["method"] | options
    return Asker(config.env.task, config.env.suite, SimpleNamespace(**settings))


def text(messages: list[dict]) -> str:
    return "\n".join(message["content"] for message in messages)


def candidates(d: int = 11) -> list[Candidate]:
    return [
        Candidate("It is A.", "def a(): pass", 12.345, features=2, lipschitz=[0.5 + i for i in range(d + 2)]),
        Candidate("It is B.", "def b(): pass", 98.7, features=3, lipschitz=[0.25] * (d + 3), ignored=[d + 1]),
        Candidate("It is C.", "def c(): pass", -np.inf, "failed: died in /home/someone/llmrl/x.py", features=1),
    ]


# --- prompts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("env", DESCRIBED)
def test_the_first_prompt_tells_the_whole_task(env):
    prompt = text(asker(env, tell="reward").ask([]))
    task = config_of(env).env.task
    assert not re.search(r"\$\w|\{\w+\}", prompt)
    for part in (task.description, task.reward, task.end, task.goal, task.name):
        assert str(part).strip() in prompt
    assert len(task.observation) == TASKS[env]
    for index, meaning in enumerate(task.observation):
        assert f"\n- s[{index}]: {meaning}\n" in prompt
    assert f"of {TASKS[env]} dimensions" in prompt and f"from updated_s[{TASKS[env]}] to the end" in prompt
    assert ("infant" in prompt) == env.startswith("robotics/")


def test_feedback_goes_on_from_the_best_programs_reply():
    ask = asker()
    request = ask.ask([])
    messages = ask.feedback(candidates())
    assert messages[:1] == request
    assert messages[1] == {"role": "assistant", "content": "It is B."}
    assert [m["role"] for m in messages] == ["user", "assistant", "user"]
    told = messages[2]["content"]
    assert "(mean return of the last evaluations): 12.35" in told or "12.34" in told
    assert "Source dimensions 0 to 10, Lipschitz constants: 0: 0.50, 1: 1.50" in told
    assert "Added dimensions 11 to 12, Lipschitz constants: 11: 11.50, 12: 12.50" in told
    assert "does not depend on dimensions 12" in told
    for name in "abc":
        assert f"def {name}(): pass" in told


def test_a_failed_program_is_told_as_failed_without_this_machines_paths():
    told = asker().feedback(candidates())[-1]["content"]
    assert "Its training failed: died in <path>" in told
    assert "someone" not in told and "inf" not in told.split("Program 3")[1].split("Analyse")[0]


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("no file /tmp/a/b.txt here", "no file <path> here"),
        (r"in C:\Users\me\x.py", "in <path>"),
        ("~/keys/openai is missing", "<path> is missing"),
        ("3 m/s, 1/2 and a/b/c stay", "3 m/s, 1/2 and a/b/c stay"),
    ],
)
def test_paths_are_taken_out(raw, clean):
    assert without_paths(raw) == clean


def test_the_history_grows_by_iteration():
    ask = asker()
    prompts = [text(ask.ask([Round(candidates(), f"Suggestion {i}.") for i in range(n)])) for n in range(4)]
    for n, prompt in enumerate(prompts):
        assert prompt.count("def a(): pass") == n
        assert [f"Suggestion {i}." in prompt for i in range(3)] == [i < n for i in range(3)]
        assert (f"Iteration {n}:" in prompt) == (n > 0) and f"Iteration {n + 1}:" not in prompt
    assert len(ask.ask([Round(candidates(), "x")])) == 1  # one user message, the conversation is not carried on


def test_what_each_option_leaves_out_or_replaces():
    history = [Round(candidates(), "Suggestion 0.")]
    plain = text(asker().ask(history))
    assert "Lipschitz" in plain and "12: 0.25" in plain
    without = text(asker(tell_lipschitz=False).ask(history))
    assert "Lipschitz" not in without and "0: 0.50" not in without
    assert "Final performance" in without and "Suggestion 0." in without
    silent = text(asker().ask([Round(candidates(), None)]))
    assert "uggestion" not in silent and silent == plain.replace(
        "\n\nSuggestions after iteration 1:\nSuggestion 0.", ""
    )
    assert "success rate" in text(asker(score="success_authors").ask(history)) and "success rate" not in plain
    assert "discounted return" in text(asker(lipschitz="discounted_return").ask(history))
    assert "value network" in text(asker(lipschitz="spectral_norm").ask(history))
    assert "standard deviation" in text(asker(scaled=True).ask(history)) and "standard deviation" not in plain


def test_a_reward_only_search_never_speaks_of_features():
    for reward in ("add", "replace"):
        ask = asker("robotics/fetch_reach", writes="reward", reward=reward)
        alone = [Candidate("A", "def a(): pass", features=0, lipschitz=[1.0] * 13)]
        prompt = text(ask.ask([Round(alone, "More.")])) + text(ask.feedback(alone))
        assert "revise_state" not in prompt and "updated_s" not in prompt and "Added" not in prompt
        assert ("whole reward" in prompt) == (reward == "replace")
        assert "both functions" not in prompt


def test_a_rejection_is_told_in_the_retry_only_where_that_is_wanted():
    ask = asker()
    messages = ask.ask([])
    assert ask.retry(messages, None) == messages
    told = ask.retry(messages, ("```python\n1 +```", "syntax", "invalid syntax (line 1), see /tmp/a/b.py"))
    assert told[:1] == messages and told[1]["content"] == "```python\n1 +```"
    assert "syntax: invalid syntax (line 1), see <path>" in told[2]["content"]


def test_no_prompt_holds_a_key_or_a_path(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    ask = asker("robotics/fetch_push")
    ask.ask([])
    everything = json.dumps([ask.ask([Round(candidates(28), "x")]), ask.feedback(candidates(28))])
    assert "sk-" not in everything and "/home" not in everything and "/work" not in everything


# --- scripted answers -------------------------------------------------------------------------------------------------

FAULTS = {*scripted_lesr.BROKEN, *scripted_lesr.BROKEN_REWARD}


def answers(env: str, history: list[Round], iteration: int, n: int, **options) -> list[tuple[str, str]]:
    """(kind, reply) of the first n scripted answers."""
    messages = asker(env, **options).ask(history)
    return [(scripted_lesr.KINDS[i], scripted.answer(messages, "lesr.sample", f"{iteration}/0/{i}")) for i in range(n)]


def verdict(env: str, reply: str, *, revise: bool = True) -> str:
    """The name that the checks reject a reply with, or ""."""
    try:
        validate(extract(reply), real_states_of(env), w=0.02, max_features=100, max_reward=100, revise=revise)
    except Rejected as rejected:
        return rejected.name
    return ""


@cache
def real_states_of(env: str) -> np.ndarray:
    made = make_env(config_of(env), "eval")
    try:
        return real_steps(made, 300, seed=0)[0]
    finally:
        made.close()


@pytest.mark.parametrize("env", ["mujoco/hopper", "mujoco/half_cheetah", "classic/pendulum"])
def test_a_search_finds_something_to_train_and_something_to_reject(env):
    found = answers(env, [], 0, len(scripted_lesr.KINDS))
    verdicts = [verdict(env, reply) for _, reply in found]
    assert [v for v in verdicts if v] == ["wrong_length", "syntax", "not_finite"]
    assert [bool(v) for v in verdicts] == [kind == "broken" for kind, _ in found]
    accepted = [fingerprint(extract(reply)) for (_, reply), v in zip(found, verdicts, strict=True) if not v]
    assert len(set(accepted)) == len(accepted)  # no duplicates


def test_later_rounds_build_on_the_best_program():
    first = extract(answers("mujoco/hopper", [], 0, 1)[0][1])
    other = first.replace("upright", "lean").replace("np.cos(s[1])", "np.abs(s[1])")
    told = [Candidate("", other, score=5.0), Candidate("", first, score=50.0), Candidate("", other, score=7.0)]
    found = answers("mujoco/hopper", [Round(told, "Go on.")], 1, 9)
    good = [extract(reply) for kind, reply in found if kind == "good"]
    for code in good:
        assert "upright = np.cos(s[1])" in code and "lean" not in code
        assert code.count(" = ") == first.count(" = ") + 1  # it adds a feature
    assert len({fingerprint(code) for code in [first, *good]}) == len(good) + 1
    assert verdict("mujoco/hopper", good[0]) == ""
    broken = [verdict("mujoco/hopper", reply) for kind, reply in found if kind == "broken"]
    assert broken == ["not_finite", "prefix_changed", "reward_not_scalar"]


def test_a_reward_only_search_is_answered_with_rewards():
    found = answers("mujoco/hopper", [], 0, 9, writes="reward")
    verdicts = {verdict("mujoco/hopper", reply, revise=False) for kind, reply in found if kind == "broken"}
    assert verdicts == set(scripted_lesr.BROKEN_REWARD)
    for kind, reply in found[:3]:
        if kind != "broken":
            assert defined(extract(reply)) == ("intrinsic_reward",)
            assert verdict("mujoco/hopper", reply, revise=False) == ""


def test_who_is_told_of_a_rejection_does_better():
    ask = asker()
    messages = ask.ask([])
    broken = scripted_lesr.KINDS.index("broken")
    reply = scripted.answer(messages, "lesr.sample", f"0/0/{broken}")
    told = ask.retry(messages, (reply, "wrong_length", "…"))
    assert verdict("mujoco/hopper", reply) in FAULTS
    assert verdict("mujoco/hopper", scripted.answer(told, "lesr.sample", f"0/0/{broken}")) == ""


def test_the_same_call_gets_the_same_answer():
    messages = asker().ask([])
    answers = [scripted.answer(messages, "some/run/lesr.sample", "1/2/3") for _ in range(2)]
    assert answers[0] == answers[1] != scripted.answer(messages, "lesr.sample", "1/2/4")


def test_the_scripted_analysis_names_the_best_program():
    ask = asker()
    first, poor = (extract(reply) for kind, reply in answers("mujoco/hopper", [], 0, 3) if kind != "broken")
    told = [
        Candidate("", poor, 3.0, lipschitz=[1.0] * 13),
        Candidate("", first, 40.0, features=3, lipschitz=[2.0] * 14),
    ]
    ask.ask([])
    answer = scripted.answer(ask.feedback(told), "lesr.feedback", "0")
    assert "scored 40.00: keep pace, upright, tipping" in answer and "worst scored 3.00" in answer
    failed = [Candidate("", first, -np.inf, failed="failed: out of memory")]
    assert "No program" in scripted.answer(ask.feedback(failed), "lesr.feedback", "0")


@pytest.mark.parametrize("env", DESCRIBED)
def test_every_task_has_answers_that_fit_its_state(env):
    """Our own programs, run here on random states: the right number of features, finite, and a small reward."""
    messages, d = asker(env).ask([]), TASKS[env]
    states = np.random.default_rng(0).normal(size=(50, d))
    for attempt in [i for i, kind in enumerate(scripted_lesr.KINDS) if kind != "broken"]:
        namespace: dict = {}
        exec(extract(scripted.answer(messages, "lesr.sample", f"0/0/{attempt}")), namespace)
        for s in states:
            x = namespace["revise_state"](s)
            assert d < len(x) <= d + 8 and np.isfinite(x).all()
            assert abs(namespace["intrinsic_reward"](x)) < 100


MEANS = {  # what the sheet must say of the dimensions that a feature of this name reads
    "pace": "velocity .* (x|y)|angle of the front rod", "goal_distance": "goal|position of the (gripper|block)",
    "palm_to_handle": "palm minus .* handle", "opened": "door's hinge", "latch_turned": "latch",
    "palm_to_hammer": "position of the (palm|hammer)", "hammer_to_nail": "hammer's handle|nail's head",
    "driven": "driven in", "touch": "touch", "knees": "knee", "sinking": "velocity .* z", "still": "velocity .* x",
    "thighs_apart": "thigh", "drift": "velocity .* y", "lift": "velocity .* z", "fidgeting": "angular velocity",
    "bent": "angle of the .* (joint|hip|ankle)", "stride": "(thigh|hip)", "nearness": "position",
    "swing": "velocity of the hammer", "push_x": "along x", "push_y": "along y", "behind": "along (x|y)",
}  # fmt: skip


@pytest.mark.parametrize("env", DESCRIBED)
def test_features_read_the_dimensions_that_they_are_named_for(env):
    sheet = config_of(env).env.task.observation
    prompt = text(asker(env).ask([]))
    for feature in scripted_lesr.of_task(prompt):
        if feature.name in MEANS and scripted_lesr.highest_index(feature.code) < len(sheet):
            read = np.nonzero(reads(feature.code, len(sheet)))[0]
            assert read.size
            for index in read:
                assert re.search(MEANS[feature.name], sheet[index]), (feature, sheet[index])


def reads(code: str, d: int) -> np.ndarray:
    """Which dimensions of s an expression reads."""
    seen = np.zeros(d, bool)

    class Watched(np.ndarray):
        def __getitem__(self, key):
            seen[key] = True
            return np.asarray(self)[key]

    eval(code, {"np": np, "s": np.ones(d).view(Watched)})
    return seen

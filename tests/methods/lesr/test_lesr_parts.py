"""LESR's parts: Lipschitz constants, programs out of replies and their checks on real states."""

from functools import cache

import numpy as np
import pytest
from conftest import compose
from numpy.testing import assert_allclose, assert_array_equal

from llmrl.build import make_env
from llmrl.config import from_node
from llmrl.llm.program_text import Rejected, fingerprint
from llmrl.methods.lesr import lipschitz
from llmrl.methods.lesr.lipschitz import Recorder, constants, scaled_constants, spectral, spectral_norm_product
from llmrl.methods.lesr.program import FUNCTIONS, defined, extract, validate
from llmrl.methods.search.steps import real_steps

GOOD = """import numpy as np

def revise_state(s):
    speed = np.sqrt(s[5] ** 2 + s[6] ** 2)  # of the torso
    return np.concatenate([s, [speed, np.cos(s[1]), s[0] * 9.81]])

def intrinsic_reward(updated_s):
    return 1.0 * updated_s[11] + 0.5 * updated_s[12]
"""


def draws(n: int = 400, d: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, d))
    return x, np.tanh(x[:, 0]) + 0.1 * rng.normal(size=n)


# --- Lipschitz constants ----------------------------------------------------------------------------------------------


def test_golden_value_of_the_authors_formula():
    x = np.array([[0, 1, 3], [2, 2, 5], [1, 0, -1]], float).T
    assert_allclose(constants(x, np.array([1.0, 4.0, 0.0])), [2.97029703, 300, 3.96039604], rtol=1e-8)


def test_what_has_no_constant_counts_as_0():
    x, r = draws()
    x[3, 1] = np.nan
    found = constants(x, r)
    assert found[1] == 0 and (found[[0, 2, 3, 4]] > 0).all()
    assert_array_equal(constants(x[:1], r[:1]), np.zeros(5))
    assert_array_equal(scaled_constants(x[:, :1] * 0, r, np.zeros(1)), [0])


def test_scaled_constants_know_no_units():
    x, r = draws()
    for factor in (1024.0, 2.0**-20):  # powers of 2: the very same bits
        other = x * [1, factor, 1, factor, 1]
        assert_array_equal(scaled_constants(other, r, other.std(axis=0)), scaled_constants(x, r, x.std(axis=0)))
    other = 1000 * x
    assert_allclose(scaled_constants(other, r, other.std(axis=0)), scaled_constants(x, r, x.std(axis=0)), rtol=1e-9)
    assert not np.allclose(constants(other, r), constants(x, r))


def test_scaled_constants_show_on_which_dimension_the_reward_depends():
    x, r = draws(2000)
    r[::200] += 5.0  # a few odd rewards, such as a fall brings
    found = scaled_constants(x, r, x.std(axis=0))
    plain = constants(x, r)  # here the densest odd pair decides
    assert found[0] / found[1:].min() < 0.6 < 0.8 < plain[0] / plain[1:].min()


def record(recorder: Recorder, episodes: list[tuple[np.ndarray, np.ndarray]]) -> Recorder:
    for x, r in episodes:
        for state, reward in zip(x, r, strict=True):
            recorder.add(state, reward)
        recorder.end_episode()
    return recorder


def episodes(n: int = 4) -> list[tuple[np.ndarray, np.ndarray]]:
    x, r = draws(100 * n)
    return [(x[i : i + 100], r[i : i + 100]) for i in range(0, 100 * n, 100)]


def test_the_average_weighs_episodes_alike_however_few_there_are():
    of_each = [constants(x, r) for x, r in episodes()]
    kept = 0.995 ** np.arange(4)[::-1]
    told = record(Recorder("episode", False, "reward", 0.99), episodes()).value()
    assert_allclose(told, kept @ of_each / kept.sum())
    authors = record(Recorder("episode", False, "reward", 0.99, corrected=False), episodes()).value()
    assert_allclose(authors, 0.005 * kept @ of_each)
    assert Recorder("episode", False, "reward", 0.99).value().shape == (0,)


def test_cumulative_constants_are_of_all_steps_so_far():
    x, r = draws()
    so_far = [constants(x[:n], r[:n]) for n in (100, 200, 300, 400)]
    kept = 0.995 ** np.arange(4)[::-1]
    told = record(Recorder("cumulative", False, "reward", 0.99), episodes()).value()
    assert_allclose(told, kept @ so_far / kept.sum())


def test_the_cumulative_reservoir_is_bounded_and_fair(monkeypatch):
    monkeypatch.setattr(lipschitz, "RESERVOIR", 200)
    steps = [(np.full((50, 1), float(i)), np.zeros(50)) for i in range(100)]
    x = record(Recorder("cumulative", False, "reward", 0.99), steps).state_dict()["x"]
    assert len(x) == 200
    assert 40 < x.mean() < 60  # of 0 to 99: neither the first nor the last only
    assert_array_equal(record(Recorder("cumulative", False, "reward", 0.99), steps).state_dict()["x"], x)


def test_the_discounted_return_takes_the_place_of_a_sparse_reward():
    x = np.arange(5.0)[:, None]
    r = np.array([0.0, 0, 0, 0, 1])
    returns = 0.5 ** np.arange(5)[::-1]
    assert_allclose(lipschitz.discounted_returns(r, 0.5), returns)
    told = record(Recorder("episode", False, "discounted_return", 0.5), [(x, r)]).value()
    assert_allclose(told, constants(x, returns))


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("mode", ["episode", "cumulative"])
def test_a_resumed_recorder_goes_on_bit_for_bit(mode, scaled, monkeypatch):
    monkeypatch.setattr(lipschitz, "RESERVOIR", 150)
    whole = record(Recorder(mode, scaled, "reward", 0.99), episodes())
    first = record(Recorder(mode, scaled, "reward", 0.99), episodes()[:2])
    x, r = episodes()[2]
    resumed = Recorder(mode, scaled, "reward", 0.99)
    for state, reward in zip(x[:60], r[:60], strict=True):  # a resume plays the episode under way again,
        resumed.add(state, reward)
    resumed.load_state_dict(first.state_dict())  # and then loads what the ended ones left
    record(resumed, [(x[60:], r[60:]), episodes()[3]])
    assert_array_equal(resumed.value(), whole.value())
    for key, value in whole.state_dict().items():
        np.testing.assert_equal(resumed.state_dict()[key], value)


def test_spectral_norms_bound_a_network():
    rng = np.random.default_rng(1)
    weights = [rng.normal(size=shape) for shape in [(16, 5), (16, 16), (1, 16)]]
    assert_allclose(spectral_norm_product([np.diag([3.0, 1.0]), np.diag([2.0, 2.0])]), 6)
    bounds, whole = spectral(weights, 3), spectral_norm_product(weights)
    assert bounds.shape == (3,) and (bounds <= whole).all()

    def value(x):
        for w in weights[:-1]:
            x = np.maximum(w @ x, 0)
        return float((weights[-1] @ x)[0])

    for _ in range(50):
        x, i, h = rng.normal(size=5), rng.integers(3), rng.normal()
        assert abs(value(x + h * np.eye(5)[i]) - value(x)) <= bounds[i] * abs(h) + 1e-12


# --- programs out of replies ------------------------------------------------------------------------------------------

F, G = GOOD.split("\ndef intrinsic_reward")
G = "def intrinsic_reward" + G


@pytest.mark.parametrize(
    "reply",
    [
        f"```python\n{GOOD}```",
        f"Let me return to the task.\n\n```py\n{GOOD}```\nI return to the question: the return value is good.",
        f"First try:\n```python\n{GOOD.replace('9.81', '1.0')}```\nBetter:\n~~~\n{GOOD}~~~",
        f"```python\n{F}```\nand\n```python\n{G}```",
        f"1. Code:\n    ```python\n{''.join('    ' + line + chr(10) for line in GOOD.splitlines())}    ```\nDone.",
        f"```python\n{GOOD}",  # the closing fence is missing
        f"```text\nhere it comes\n```\n```python\n{GOOD}```\n```bash\npython program.py\n```",
        f"Sure! This is it:\n{GOOD}\nThe speed is what matters, since we return it.",
        GOOD,
        f"```python\n{GOOD.replace('import numpy as np', '')}```",
        f"The program: ```python\n{GOOD}```",
        f"<code>\n{GOOD}</code>",
        f"```python\n{GOOD}\n# Example usage\ns = np.zeros(17)\nupdated_s = revise_state(s)\nprint(updated_s)\n```",
        f"```python\n{GOOD}\nif __name__ == '__main__':\n    print(revise_state(np.random.rand(17)))\n```",
        f"```python\n{F}```\n```python\n{G}```\nUsage:\n```python\nimport numpy as np\ns = np.zeros(3)\nprint(s)\n```",
    ],
)
def test_replies_that_hold_the_same_program(reply):
    code = extract(reply)
    assert fingerprint(code) == fingerprint(GOOD)
    assert defined(code) == FUNCTIONS


@pytest.mark.parametrize(
    ("name", "reply"),
    [
        ("no_code", ""),
        ("no_code", "I cannot help with that."),
        ("no_code", "```json\n{}\n```"),
        ("syntax", f"```python\n{GOOD.replace('):', ')')}```"),
        ("syntax", f"```python\n{GOOD[:-20]}"),
        ("syntax", f"```python\n{F}```\n```python\n{G.replace('return', 'retrun')}```"),
        ("syntax", "```python\ndef f(s):\n    return " + "(" * 9000 + "```"),
        ("syntax", f"```python\n{GOOD}\0```"),
        ("missing_function", f"```python\n{F}```"),
        ("missing_function", "```python\nimport numpy as np\ndef main():\n    return 0\n```"),
        ("reserved_name", f"```python\n{GOOD.replace('1.0 *', 'step(1.0) *')}\ndef step(x):\n    return x > 0\n```"),
        ("too_long", "```python\n" + GOOD * 2000 + "```"),
    ],
)
def test_replies_that_hold_none(name, reply):
    with pytest.raises(Rejected) as error:
        extract(reply)
    assert error.value.name == name


def test_a_reward_alone_is_a_program_where_nothing_else_was_written():
    assert defined(extract(f"```python\nimport numpy as np\n{G}```")) == FUNCTIONS[1:]


def test_the_fingerprint_is_of_what_a_program_computes():
    rewritten = (
        '"""Mine."""\nimport numpy as np\ndef revise_state(state):\n    """Doc."""\n'
        "    v = np.sqrt(state[5]**2+state[6]**2)\n"
        "    return np.concatenate([state, [v, np.cos(state[1]), state[0]*9.81]])\n" + G.replace("updated_s", "x")
    )
    assert fingerprint(rewritten) == fingerprint(GOOD)
    for other in (GOOD.replace("0.5", "0.6"), GOOD.replace("np.cos", "np.sin"), GOOD.replace("s[5]", "s[6]")):
        assert fingerprint(other) != fingerprint(GOOD)


# --- checks -----------------------------------------------------------------------------------------------------------


@cache
def steps_of(env: str) -> tuple[np.ndarray, np.ndarray]:
    made = make_env(from_node(compose([f"env={env}", "agent=td3"])), "eval")
    try:
        found = real_steps(made, 1000, seed=0)
        return found.states, found.rewards
    finally:
        made.close()


def check(code: str, **options):
    return validate(code, steps_of("mujoco/hopper")[0], **{"w": 0.02, "max_features": 100, "max_reward": 100} | options)


def test_real_states_are_a_random_policys_with_resets_among_them():
    states, rewards = steps_of("mujoco/hopper")
    assert states.shape == (1000, 11) and rewards.shape == (1000,)
    starts = np.flatnonzero((np.abs(states[:, 5:]) < 0.006).all(axis=1))  # a reset has velocities below 0.005
    assert 10 <= len(starts) < 300 and starts[0] == 0
    made = make_env(from_node(compose(["env=mujoco/hopper", "agent=td3"])), "eval")
    few = real_steps(made, 30, seed=0)
    made.close()
    assert_array_equal(few.states, states[:30])
    assert few.actions.shape == (30, 3) and np.abs(few.actions).max() <= 1
    assert_array_equal(few.next_states[:3], few.states[1:4])  # of one episode


def test_facts_of_a_program_that_passes():
    states, rewards = steps_of("mujoco/hopper")
    facts = check(GOOD, rewards=rewards)
    assert facts.features == 3
    assert facts.ignored == [13]  # the third feature is in no reward
    assert facts.not_finite == 0
    g = np.hypot(states[:, 5], states[:, 6]) + 0.5 * np.cos(states[:, 1])
    assert_allclose([facts.reward_median, facts.reward_max], [np.median(g), g.max()], rtol=1e-5)
    assert_allclose(facts.reward_share, 0.02 * g.mean() / np.abs(rewards).mean(), rtol=1e-5)


def test_what_is_not_finite_on_extremes_alone_is_counted():
    divides = GOOD.replace("s[0] * 9.81", "s[0] / np.sum(np.abs(s))")  # 0 / 0 for the state of zeros
    assert check(divides).not_finite == 1


def in_f(line: str) -> str:
    return GOOD.replace("    speed", f"    {line}\n    speed", 1)


def in_g(line: str) -> str:
    return GOOD.replace("    return 1.0", f"    {line}\n    return 1.0")


def returning(reward: str) -> str:
    return GOOD.replace("1.0 * updated_s[11] + 0.5 * updated_s[12]", reward)


REVISED = "return np.concatenate([s, [speed, np.cos(s[1]), s[0] * 9.81]])"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("wrong_length", GOOD.replace("[speed,", "[speed] * int(1 + (s[0] > 1.2)) + [")),
        ("wrong_length", GOOD.replace(REVISED, "return s[:5]")),
        ("wrong_length", GOOD.replace(REVISED, "return np.stack([s, s])")),
        ("no_features", GOOD.replace(REVISED, "return s")),
        ("too_many_features", GOOD.replace("[speed,", "[speed] * 200 + [")),
        ("prefix_changed", GOOD.replace("[s, [speed", "[s * 2, [speed")),
        ("input_mutated", in_f("s[0] = 1.0")),
        ("input_mutated", in_g("updated_s[0] = 1.0")),
        ("not_finite", GOOD.replace("[speed,", "[np.sqrt(s[5]),")),
        ("not_finite", returning("updated_s[11] * np.log(0.0)")),
        ("reward_not_scalar", returning("updated_s[11:12]")),
        ("reward_too_large", returning("1e5 * updated_s[11]")),
        ("too_slow", in_f("for i in range(100_000): pass")),
        ("raised", returning("updated_s[99]")),
        ("raised", GOOD.replace("[speed,", "[1 / float(sum(abs(s))),")),  # on the extreme state of zeros
        ("missing_function", F),
        ("forbidden_import", "import os\n" + GOOD),
    ],
)
def test_each_fault_has_its_name(name, code):
    with pytest.raises(Rejected) as error:
        check(code)
    assert error.value.name == name
    assert error.value.detail


def test_a_program_with_a_memory_is_rejected_as_impure():
    """The sandbox's gate forbids what can remember; here it is off, so that the check itself is seen."""
    from llmrl.methods.lesr import program

    class Ungated(program.Sandbox):
        def __init__(self, *args, **options):
            super().__init__(*args, gate=False, **options)

    remembers = GOOD.replace("import numpy as np\n", "import numpy as np\nlast = np.linspace(0, 0, 1).flat\n")
    remembers = remembers.replace("    speed", "    change = s[0] - last[0]\n    last[0] = s[0]\n    speed", 1)
    remembers = remembers.replace("[speed,", "[change,")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "Sandbox", Ungated)
        with pytest.raises(Rejected) as error:
            check(remembers)
    assert error.value.name == "impure"


def test_a_child_that_cannot_start_is_not_the_programs_fault():
    from llmrl.methods.lesr import program

    def broken(*args, **options):
        raise program.SandboxFailure("not_started", "no more processes")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "Sandbox", broken)
        with pytest.raises(program.SandboxFailure) as error:
            check(GOOD)
    assert not isinstance(error.value, Rejected)


def test_a_reward_alone_has_no_features():
    reward = "import numpy as np\n\ndef intrinsic_reward(s):\n    return np.tanh(s[5])\n"
    facts = check(reward, revise=False)
    assert (facts.features, facts.ignored) == (0, [])
    with pytest.raises(Rejected) as error:
        check(GOOD, revise=False)
    assert error.value.name == "unwanted_features"
    with pytest.raises(Rejected) as error:
        check(reward)
    assert error.value.name == "missing_function"


def test_the_share_of_the_intrinsic_reward_can_be_limited():
    _, rewards = steps_of("mujoco/hopper")
    with pytest.raises(Rejected) as error:
        check(GOOD, rewards=rewards, w=100, max_reward_share=10)
    assert error.value.name == "reward_too_large"


def test_the_entry_gives_features_and_reward_in_one_call():
    from llmrl.llm.sandbox import Sandbox
    from llmrl.methods.lesr.program import ENTRY

    s = steps_of("mujoco/hopper")[0][7]
    for code in (GOOD, F, G.replace("updated_s[11] + 0.5 * updated_s[12]", "updated_s[5]")):
        with Sandbox(code, defined(code), ENTRY) as sandbox:
            features, reward = sandbox.call("step", s)
        speed = np.hypot(s[5], s[6])
        assert_allclose(features, [speed, np.cos(s[1]), s[0] * 9.81] if "revise_state" in code else [])
        expected = {GOOD: speed + 0.5 * np.cos(s[1]), F: 0.0}.get(code, s[5])
        assert_allclose(reward, expected)
        assert reward.shape == ()

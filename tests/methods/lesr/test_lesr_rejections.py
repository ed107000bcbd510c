"""What of a program is rejected beyond what LESR's authors reject, and how each such rejection is asked for or not."""

import re
from pathlib import Path
from typing import get_args

import pytest
from conftest import compose
from test_lesr_parts import GOOD, REVISED, check, in_f, returning, steps_of
from test_presets_lesr import ONE, SMALL

from llmrl.config import from_node
from llmrl.llm.program_text import Rejected
from llmrl.methods.lesr import method as lesr
from llmrl.methods.lesr import scripted
from llmrl.methods.lesr import search as lesr_search
from llmrl.methods.lesr.program import DEFAULT_REJECT, REJECTIONS, Rejection
from llmrl.methods.search import candidates, checks
from llmrl.runs.seeding import generator

DOCS = Path(__file__).parents[3] / "docs" / "papers" / "lesr.md"
SWITCHED = {  # a program that only this rejection stands against, and what the checks find of it without
    "no_features": (GOOD.replace(REVISED, "return s").replace("updated_s[11]", "s0").replace(
        "    return 1.0", "    s0 = updated_s[5]\n    return 1.0").replace("updated_s[12]", "0.0"), {"features": 0}),
    "not_finite": (GOOD.replace("s[0] * 9.81", "np.sqrt(s[5])"), {"features": 3}),
    "fails_on_extremes": (GOOD.replace("s[0] * 9.81", "1 / float(sum(abs(s)))"), {"not_finite": 0}),
    "too_slow": (in_f("for i in range(3000): pass"), {"features": 3}),
    "ignores_features": (returning("updated_s[0] ** 2"), {"ignored": [11, 12, 13]}),
}  # fmt: skip
RECORDED = {"fails_on_extremes": "raised"}  # under the name of what failed there


def reason(code, **options):
    with pytest.raises(Rejected) as error:
        check(code, **options)
    return error.value.name


def test_the_defaults_are_those_of_the_yaml_and_ignoring_a_feature_is_not_among_them():
    search = from_node(compose(["method=lesr"])).method.search
    assert search.reject == DEFAULT_REJECT == (
        "duplicate", "no_features", "not_finite", "fails_on_extremes", "too_slow")  # fmt: skip
    assert {*SWITCHED, "duplicate"} == {*get_args(Rejection)}
    assert (search.max_features, search.max_reward) == (100, 100)
    assert search.max_real_reward is search.max_reward_share is None


@pytest.mark.parametrize("name", SWITCHED)
def test_each_rejection_is_made_where_it_is_asked_for_and_else_not(name, monkeypatch):
    if name == "too_slow":
        monkeypatch.setattr(checks, "SECONDS_PER_STATE", 1e-5)  # a tenth of what the loop takes at the least
    code, facts = SWITCHED[name]
    assert reason(code, reject=[name]) == RECORDED.get(name, name)
    found = check(code, reject=[other for other in get_args(Rejection) if other != name])
    assert {key: getattr(found, key) for key in facts} == facts


def test_what_is_not_finite_and_tolerated_is_counted():
    code, _ = SWITCHED["not_finite"]
    states = steps_of("mujoco/hopper")[0]
    found = check(code, reject=[])
    assert found.not_finite == (states[:, 5] < 0).sum() > 0
    assert found.reward_max < 100


def test_the_authors_bound_is_on_one_random_state_and_ours_on_real_ones_is_off():
    """As their Walker2d program: within 100 on a state of normal numbers, beyond it where the walker really is."""
    real_alone = returning("168.0 * (1.2 < updated_s[0] < 1.3) + updated_s[11]")
    assert check(real_alone).reward_max == pytest.approx(168, abs=5)
    assert reason(real_alone, max_real_reward=100) == "reward_too_large"
    everywhere = returning("168.0 + updated_s[11]")
    assert reason(everywhere) == "reward_too_large"
    assert check(everywhere, max_reward=1000).features == 3
    assert reason(everywhere, max_reward=1000, max_real_reward=100) == "reward_too_large"
    nan = returning("updated_s[11] if 1.0 < updated_s[0] < 1.5 else np.nan")
    assert reason(nan) == "reward_too_large"  # no number is within no bound, as in their comparison
    assert reason(returning("updated_s[11] + 1.0 / float(1.0 < updated_s[0] < 1.5)"), reject=[]) == "raised"


def test_the_random_state_is_one_of_the_searchs_seed():
    code, verdicts, expected = returning("1e3 * (updated_s[6] > 0) + updated_s[11]"), [], []
    for seed in range(4):
        try:
            check(code, seed=seed)
            verdicts.append(False)
        except Rejected as rejected:
            verdicts.append(rejected.name == "reward_too_large")
        expected.append(generator(seed, "random_state").standard_normal((1, 11))[0, 6] > 0)
    assert verdicts == expected and len(set(expected)) == 2


def test_any_number_of_features_where_no_limit_is_asked_for():
    wide = GOOD.replace("[speed,", "[speed] * 200 + [")
    assert reason(wide, max_features=100) == "too_many_features"
    assert check(wide, max_features=None).features == 202


# --- in a search ------------------------------------------------------------------------------------------------------


def searched(tmp_path, monkeypatch, replies, *overrides):
    """(verdicts, feedback) of a search whose LLM gives these replies in turn; a training ends at once."""
    from test_presets_lesr import trained

    from llmrl.context import RunContext
    from llmrl.runs.files import read_jsonl
    from llmrl.runs.log import RunLog
    from llmrl.runs.stop import Stop

    given = iter(replies)
    monkeypatch.setattr(candidates, "run_all", trained)
    monkeypatch.setitem(scripted.RULES, "lesr.sample", lambda messages, index: f"```python\n{next(given)}```")
    config = lesr.search_of(from_node(compose(["experiment=lesr/mujoco", *SMALL, *overrides])))
    log = RunLog(tmp_path)
    lesr_search.LESRSearch().run(RunContext(config, tmp_path, Stop(), log, lambda *_: None))
    log.close()
    rows = read_jsonl(tmp_path / "llm.jsonl")
    verdicts = [row.get("reason", "accepted") for row in rows if row.get("event") in ("accepted", "rejected")]
    return verdicts, [
        r["messages"][-1]["content"] for r in rows if r.get("purpose") == "lesr.feedback" and "messages" in r
    ]


def cheetah(reward):
    features = scripted.TASKS["HalfCheetah"][:3]
    code = scripted.program(features, 17)
    return code[: code.rindex("    return ")] + f"    return {reward}\n"


def test_a_reward_that_ignores_the_features_is_trained_and_told_so(tmp_path, monkeypatch):
    replies = [cheetah("updated_s[0]"), cheetah("updated_s[17]")]
    verdicts, (told,) = searched(tmp_path, monkeypatch, replies, "method.search.k=1", "method.search.iterations=2")
    assert verdicts == ["accepted", "accepted"]
    assert "The intrinsic reward does not depend on dimensions 17, 18, 19" in told


def test_a_reward_that_ignores_the_features_is_rejected_where_that_is_asked_for(tmp_path, monkeypatch):
    replies = [cheetah("updated_s[0]"), cheetah("updated_s[17]")]
    verdicts, _ = searched(tmp_path, monkeypatch, replies, *ONE, "method.search.reject=[ignores_features]")
    assert verdicts == ["ignores_features", "accepted"]


@pytest.mark.parametrize(("reject", "expected"), [
    ("[duplicate]", ["accepted", "duplicate", "accepted"]), ("[]", ["accepted", "accepted"])])  # fmt: skip
def test_the_same_program_again(tmp_path, monkeypatch, reject, expected):
    """In other words: the same words would end the round."""
    replies = [cheetah("updated_s[17]"), "# as before\n" + cheetah("updated_s[17]"), cheetah("updated_s[18]")]
    more = ["method.search.k=2", "method.search.iterations=1", f"method.search.reject={reject}"]
    assert searched(tmp_path, monkeypatch, replies, *more)[0] == expected


def test_an_unknown_rejection_is_refused_before_anything_is_asked(llmrl_run):
    done = llmrl_run("experiment=lesr/mujoco", "method.search.reject=[ugly]")
    assert done.code == 2 and "method.search.reject" in done.err


def test_the_papers_page_names_every_rejection_and_every_option():
    page = DOCS.read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z_]+)`", page))
    assert {*REJECTIONS, *get_args(Rejection)} <= named
    assert all(f"method.search.{key}" in page for key in ("reject", "max_features", "max_reward", "max_real_reward"))

"""budget=smoke and short act on every length of a preset's or a table's runs and of their stages, or are refused."""

import dataclasses

import pytest
from command_line import in_process  # noqa: F401 (the fixture llmrl)
from conftest import compose
from lab_tables import TABLE, cells_of, overrides_of, written_lab  # noqa: F401 (the fixture lab)

from llmrl.checks import ConfigError
from llmrl.commands.cells import identify, stage
from llmrl.conf_files import options
from llmrl.config import from_node, method_of, shared

SMOKE, SHORT = "budget=smoke", "budget=short"
# of budget=smoke, absolutely: training, each stage, evaluations of a run, episodes of each and of each suite
TRAINING, SEARCH, EVALUATIONS, EPISODES = 4_000, 30 * 4_000, 3, 2  # at most I K = 30 candidates of a search


def lengths_of(config):
    """{what: how many} of a run and of all that it builds on."""
    found = {"training": config.budget.length, "evaluations": -(-config.budget.length // config.eval.every)}
    found["episodes"] = config.eval.episodes
    sets = config.eval.set_episodes or 0
    found["sets"] = max(sets.values()) if isinstance(sets, dict) else sets
    found |= {name: getattr(config.agent, name, 0) for name in ("learning_starts", "random_steps")}
    method = method_of(config.choices["method"])
    for number, one in enumerate(method.stages(config)):
        made = stage(one)
        found[f"stage {number} {made.path.parent.name}, {made.unit}"] = made.steps
        found[f"stage {number}, each training"] = one.budget.length
        if made.unit == "env_steps" and made.steps:
            found[f"stage {number} evaluations"] = -(-one.budget.length // one.eval.every)
    return found


def assert_small(lengths):
    most = {"evaluations": EVALUATIONS, "episodes": EPISODES, "sets": EPISODES, "learning_starts": 100,
            "random_steps": 100, " lesr, env_steps": SEARCH, " eureka, env_steps": 2 * SEARCH}  # fmt: skip
    for what, n in lengths.items():
        assert n <= next((bound for end, bound in most.items() if what.endswith(end)), TRAINING), (what, n)


# what no length depends on: runs that differ in nothing else are composed once
WITHOUT_LENGTH = ("env=", "env.", "llm", "study=", "method.answer=", "method.control=", "method.m=", "method.prompt=",
                  "method.model.tasks=", "method.rollouts.drop_failed=", "method.search.w=", "agent.attention=",
                  "agent.batch_size=", "agent.probabilities=", "agent.temperature=")  # fmt: skip
known_small = set()


def assert_smoke_is_small(overrides):
    key = frozenset(text for text in overrides if not text.startswith(WITHOUT_LENGTH))
    if key not in known_small:
        assert_small(lengths_of(shared(from_node(compose(list(overrides)), overrides))))
        known_small.add(key)


@pytest.mark.parametrize("preset", options("experiment"))
def test_smoke_makes_every_length_of_a_preset_small(preset):
    assert_smoke_is_small([f"experiment={preset}", SMOKE])


@pytest.mark.parametrize("name", options("table"))
def test_smoke_makes_every_length_of_a_table_small(name):
    assert overrides_of(name, SMOKE)
    for overrides in overrides_of(name, SMOKE):
        assert_smoke_is_small(overrides)


def test_a_tenth_is_a_tenth_of_every_length_that_stages_have():
    def of(*overrides):
        return from_node(compose(["experiment=kalm/clevr", *overrides]), overrides)

    whole, short = of(), of(SHORT)
    assert (whole.budget.updates, short.budget.updates) == (500_000, 50_000)
    assert (whole.method.real_rollouts, short.method.real_rollouts) == (6_400, 640)
    assert (whole.method.data.rollouts, short.method.data.rollouts) == (100_000, 10_000)
    model = short.method.rollouts.model
    assert model.model.updates == 1_200 and model.data == short.method.data
    from llmrl.methods.kalm.rollouts import number_of

    easy = dataclasses.replace(short.method.rollouts, tier="easy")
    assert number_of(easy) == 7_240 and number_of(dataclasses.replace(easy, rollouts=30)) == 30


def test_a_length_that_the_user_gives_wins():
    overrides = ["experiment=explorllm/guided", SMOKE, "budget.env_steps=777", "eval.episodes=5"]
    chosen = from_node(compose(overrides), overrides)
    assert (chosen.budget.env_steps, chosen.eval.episodes) == (777, 5)


@pytest.mark.parametrize("more, told", [
    (["budget.evaluations=7"], "budget.evaluations: 7 is more than budget.max_evaluations=2 of budget=smoke"),
    (["budget.eval_episodes=9"], "budget.eval_episodes: 9 is more than budget.max_eval_episodes=2"),
    (["eval.set_episodes={a: 1, b: 40}"], "eval.set_episodes: 40 is more than budget.max_eval_episodes=2"),
])  # fmt: skip
def test_a_number_that_the_budget_bounds_is_not_lowered_in_silence(more, told):
    overrides = ["experiment=classic/cart_pole", SMOKE, *more]
    with pytest.raises(ConfigError) as error:
        from_node(compose(overrides), overrides)
    assert told in str(error.value)


def test_a_preset_of_ones_own_that_gives_its_length_itself_is_refused(llmrl, lab, tmp_path):
    lab()
    file = tmp_path / "lab" / "conf" / "experiment" / "mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("# @package _global_\n# mine\nbudget:\n  env_steps: 5000\n")
    done = llmrl("run", "experiment=mine", "agent=td3", "env=classic/pendulum", SMOKE)
    assert done.code == 2 and "budget.env_steps" in done.err and "budget.paper_env_steps" in done.err
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("extra", [SMOKE, "budget.scale=0.1"])
def test_a_table_of_ones_own_that_gives_its_length_itself_is_refused(llmrl, lab, extra):
    lab()
    done = llmrl("plan", "lab/small", "--set", extra)
    assert done.code == 2 and f"{extra} does not shorten this table: it gives budget.env_steps=60" in done.err


def test_that_tables_length_can_be_given_with_the_budget(lab):
    cells = cells_of(lab(), extra=[SMOKE, "budget.env_steps=50"])
    assert {run.steps for cell in cells for run in cell.runs} == {50}


def test_epochs_over_imported_rollouts_are_refused(llmrl, tmp_path):
    (tmp_path / "theirs").mkdir()
    done = llmrl("run", "experiment=kalm/clevr", SMOKE, f"method.data.import_from={tmp_path / 'theirs'}",
                 "method.rollouts.model.model.epochs=1", "method.rollouts.model.model.updates=null")  # fmt: skip
    assert done.code == 2 and "does not shorten epochs over rollouts that are imported" in done.err


def test_a_run_is_the_same_however_its_length_is_said():
    rest = [text for text in TABLE["base"] if not text.startswith(("budget.", "eval.every"))]
    said = ("env_steps", "paper_env_steps")
    assert len({identify([*rest, f"budget.{key}=60", "eval.every=20"], [0])[0].id for key in said}) == 1

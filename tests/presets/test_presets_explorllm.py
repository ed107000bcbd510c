"""Each column of ExploRLLM's tables differs from its base in the one thing that it is about, and all runs of a table
share one set of programs. (What the differences do: tests/methods/explorllm/test_explorllm.py.)"""

from functools import cache

import pytest
from conftest import compose
from test_presets_llm_explorer import cell, difference

from llmrl.commands.cells import table_of
from llmrl.report.published import published
from llmrl.report.tables import grid

cell = cache(cell)
BASE = {"short": "20 %", "long": "30 %"}
EPSILONS = {"0 %": 0.0, "10 %": 0.1, "20 %": 0.2, "30 %": 0.3, "50 %": 0.5, "70 %": 0.7, "90 %": 0.9}
PARTS = {
    "means": {"agent.encoder": "means"},
    "poor affordance": {"method.affordance": "worst", "method.offset_scale": 2.0},
    "argmax": {"method.sampling": "argmax"},
    "whole offset": {"method.offset_scale": 2.0},
    "decaying": {"method.epsilon_schedule": "linear"},
}


def changed(table: str, column: str, base: str) -> dict:
    """What of a column's runs is another than in the base's: key -> the column's value."""
    found = difference(cell(table, column).identity, cell(table, base).identity)
    return {key: mine for key, (mine, _) in found.items()}


@pytest.mark.parametrize("horizon", ["short", "long"])
@pytest.mark.parametrize("column", EPSILONS)
def test_epsilon_alone_differs_along_the_curves(horizon, column):
    base = BASE[horizon]
    found = changed(f"explorllm/{horizon}_horizon", column, base)
    if column == "0 %":  # asks no language model, so none belongs to the run
        found = {key: value for key, value in found.items() if not key.startswith("llm")}
    assert found == ({} if column == base else {"method.epsilon": EPSILONS[column]})


@pytest.mark.parametrize("horizon", ["short", "long"])
@pytest.mark.parametrize("column", PARTS)
def test_one_part_alone_differs(horizon, column):
    assert changed(f"explorllm/parts_{horizon}", column, "ExploRLLM") == PARTS[column]


@pytest.mark.parametrize("horizon", ["short", "long"])
def test_where_no_object_is_named_the_other_agent_learns_at_the_same_rates(horizon):
    """What sees all crops, or acts on places, is an agent of its own: of the keys that both have none differs."""
    table = f"explorllm/parts_{horizon}"
    for column, own in (("all crops", {}), ("without residual", {"env.actions": "pixel"})):
        found = changed(table, column, "ExploRLLM")
        assert {k for k in found if k.startswith("agent.")} <= {"agent.attention", "agent.encoder"}
        assert found.get("env.actions") == own.get("env.actions") and found["name.agent"] == "sac_crops"
    mixed = changed(table, "all crops, mixed", "all crops")
    assert mixed == {"agent.attention": "true"}


def test_as_the_authors_has_their_codes_values():
    agent = cell("explorllm/two_cores_as_authors", "training").identity["agent"]
    named = {"attention": "authors", "batch_size": 256, "temperature": 1.0, "learning_rate": 1.5e-4, "gamma": 0.9}
    assert {key: agent[key] for key in named} == named
    key = "explorllm", "development_rollout_short", "with LLM exploration", "46000"
    assert published()[key].value == 0.88


@pytest.mark.parametrize("horizon", ["short", "long"])
def test_a_run_is_shown_greedy_sampled_in_training_and_with_other_crops(horizon):
    table = table_of(f"explorllm/two_cores_{horizon}")
    labels = ["0 %", "20 %" if horizon == "short" else "30 %"]
    for label in labels:
        columns = [label, *(f"{label}, {what}" for what in ("sampled", "training", "other crops"))]
        assert len({cell(f"explorllm/two_cores_{horizon}", column).id for column in columns}) == 1
        assert table.columns[columns[1]].evaluation_set == "sampled"
        assert table.columns[columns[2]].metric == "training_return"
        assert table.columns[columns[3]].evaluation_set == "other_crops"


@pytest.mark.parametrize("horizon", ["short", "long"])
def test_the_whole_image_differs_from_the_unguided_in_what_is_seen_and_how_it_acts(horizon):
    found = changed(f"explorllm/parts_{horizon}", "whole image, unguided", "unguided")
    assert {k: v for k, v in found.items() if k.startswith("env.")} == {
        "env.observation": "image",
        "env.actions": "pixel",
    }
    assert {key.partition(".")[0] for key in found} <= {"env", "agent", "name"} and found["name.agent"] == "sac_crops"


@pytest.mark.parametrize("table", ["short_horizon", "parts_short", "two_cores_short", "two_cores_long"])
def test_all_guided_runs_of_a_table_share_their_programs(table):
    name = f"explorllm/{table}"
    stages = grid.stages_of([cell(name, column) for column in table_of(name).columns])
    assert len(stages) == 1 and stages[0].path.parts[-3:-1] == ("artifacts", "explorllm")


def test_the_published_numbers_of_the_curves_are_found():
    for horizon in ("short", "long"):
        table = table_of(f"explorllm/{horizon}_horizon")
        for label in EPSILONS:
            key = "explorllm", table.published, f"{horizon}_horizon", table.columns[label].published
            assert published()[key].value is not None


def test_success_is_shown_on_three_evaluation_sets_of_the_same_runs():
    table = table_of("explorllm/success")
    assert [line.evaluation_set for line in table.columns.values()] == ["seen", "unseen_colours", "unseen_letters"]
    assert len({cell("explorllm/success", column).id for column in table.columns}) == 1


@pytest.mark.parametrize(
    ("preset", "horizon", "timeout"),
    [("guided", "short", "terminal"), ("guided", "long", "truncation"), ("unguided", "long", "truncation"),
     ("as_authors", "short", "terminal"), ("as_authors", "long", "terminal")],
)  # fmt: skip
def test_a_time_out_is_terminal_but_in_our_long_horizon(preset, horizon, timeout):
    node = compose([f"experiment=explorllm/{preset}", f"env=pick_place/{horizon}_horizon"])
    assert node["env"]["timeout"] == timeout

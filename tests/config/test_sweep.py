"""The runs of a sweep: composed once per combination, and the same as Hydra composes each."""

import pytest
from conftest import CART_POLE

from llmrl import hydra_compose, sweep
from llmrl.commands.cells import identify

SEEDS = "seed=range(0,6)"


def counted(monkeypatch) -> list[tuple[str, ...]]:
    composed = []

    def compose(overrides):
        composed.append(tuple(overrides))
        return hydra_compose.compose(overrides)

    monkeypatch.setattr(sweep, "compose", compose)
    return composed


def test_a_combination_is_composed_for_two_seeds_and_all_nodes_are_hydras(monkeypatch):
    composed = counted(monkeypatch)
    points = sweep.points_of(["--multirun", *CART_POLE, "agent.gamma=0.9,0.99", SEEDS])
    jobs, wrong = sweep.jobs_of(points)
    assert wrong == [] and len(jobs) == 12 and len(composed) == 4
    assert [node["seed"] for node, _ in jobs] == [*range(6)] * 2
    for node, overrides in jobs:
        assert node == hydra_compose.compose(overrides)
    assert jobs[2][0] is not jobs[3][0] and jobs[2][0]["agent"] is not jobs[3][0]["agent"]


def test_a_process_of_many_runs_composes_their_combination_for_two_of_them(monkeypatch):
    composed = counted(monkeypatch)
    lines = [[*CART_POLE, f"agent.gamma={gamma}", f"seed={seed}"] for gamma in (0.9, 0.99) for seed in range(4)]
    with sweep.composed_once():
        found = [sweep.jobs_of(sweep.points_of(line)) for line in lines]
    assert len(composed) == 4 and [(jobs[0], wrong) for jobs, wrong in found] == [
        ((hydra_compose.compose(line), line), []) for line in lines
    ]
    sweep.jobs_of(sweep.points_of(lines[0]))
    assert len(composed) == 5  # afterwards files may have changed


def test_what_follows_from_the_seed_is_composed_for_each(monkeypatch):
    composed = counted(monkeypatch)
    jobs, _ = sweep.jobs_of(sweep.points_of(["--multirun", *CART_POLE, "eval.seed=${seed}", SEEDS]))
    assert [node["eval"]["seed"] for node, _ in jobs] == [*range(6)] and len(composed) == 6


def test_what_is_no_plain_sweep_is_left_to_hydra():
    sweeps = [["--package=x", SEEDS], ["hydra.job.name=x", SEEDS], [*CART_POLE, "agent.gama=0.9", SEEDS], ["seed=[["],
              ["+hydra.sweeper.params.seed=1"]]  # fmt: skip
    for args in (["--cfg=job", *CART_POLE], *(["--multirun", *one] for one in sweeps)):
        assert sweep.points_of(args) is None


@pytest.mark.parametrize("follows", [[], ["method.rollouts.model.seed=${seed}"], ["agent.batch_size=${..seed}"]])
def test_a_tables_cell_plans_the_runs_that_are_made_also_where_something_follows_the_seed(follows):
    overrides, seeds = ["experiment=kalm/clevr", *follows], (3, 1, 2)
    runs = identify(overrides, seeds)
    for run, seed in zip(runs, seeds, strict=True):
        (made,) = identify([*overrides, f"seed={seed}"], [seed])
        assert (run.path, run.stages, run.node) == (made.path, made.stages, made.node)
        composed = hydra_compose.compose([*overrides, f"seed={seed}"])
        assert run.node == {key: value for key, value in composed.items() if key != "rerun"}
    assert len({str({**run.identity, "seed": None}) for run in runs}) == (3 if follows else 1)

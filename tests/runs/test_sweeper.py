"""A sweeper of Hydra's that searches gets the objective of every run."""

import math
import sys
from types import ModuleType

import pytest
from conftest import CART_POLE, only_run, run_directories
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from made_runs import make_run

from llmrl.agents.dqn import DQN
from llmrl.objective import objective_of
from llmrl.runs.files import read_jsonl


class Recorder(Sweeper):
    """Launches the seeds one after the other, and keeps what comes back."""

    __module__ = "hydra_plugins.recorder"  # where Hydra wants plugins to be
    returned: list = []

    def __init__(self, **options):
        """The basic sweeper's, which it stands in for."""

    def setup(self, *, hydra_context, task_function, config):
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments):
        for i in range(2):
            (one,) = self.launcher.launch([[*arguments, f"seed={i}"]], initial_job_idx=i)
            self.returned.append(one.return_value)


@pytest.fixture
def recorder(monkeypatch):
    Plugins.instance().register(Recorder)
    monkeypatch.setattr(Recorder, "returned", [])
    module = ModuleType(Recorder.__module__)
    module.Recorder = Recorder
    monkeypatch.setitem(sys.modules, "hydra_plugins", ModuleType("hydra_plugins"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return f"hydra.sweeper._target_={module.__name__}.Recorder"


def test_it_gets_the_last_greedy_evaluation(llmrl_run, tmp_path, recorder):
    done = llmrl_run("-m", recorder, *CART_POLE)
    assert done.code == 0, done.err
    last = [read_jsonl(run / "eval.jsonl")[-1]["return_mean"] for run in run_directories(tmp_path)]
    assert Recorder.returned == last and len(last) == 2


def test_the_key_objective_names_another_number(llmrl_run, tmp_path, recorder):
    assert llmrl_run("-m", recorder, *CART_POLE, "objective=best").code == 0
    best = [max(row["return_mean"] for row in read_jsonl(run / "eval.jsonl") if row["policy"] == "greedy")
            for run in run_directories(tmp_path)]  # fmt: skip
    assert Recorder.returned == best


def test_a_failed_run_has_none_and_counts_in_the_exit_code(llmrl_run, tmp_path, recorder, monkeypatch):
    monkeypatch.setattr(DQN, "update", lambda self, batch: 1 / 0)
    assert llmrl_run("-m", recorder, *CART_POLE).code == 1
    assert all(map(math.isnan, Recorder.returned)) and len(Recorder.returned) == 2


def test_the_objective_is_no_part_of_a_run(llmrl_run, tmp_path):
    assert llmrl_run(*CART_POLE).code == 0
    assert "Done before" in llmrl_run(*CART_POLE, "objective=best").out
    run = only_run(tmp_path)
    assert objective_of(run, "env_steps_total") == 60 and objective_of(run, "return/best") >= objective_of(run)
    assert llmrl_run("-m", *CART_POLE, "objective=best", "seed=0,1").code == 0 and len(run_directories(tmp_path)) == 2


def test_an_objective_is_a_score_a_metric_or_both(tmp_path):
    run = make_run(tmp_path / "outputs", returns=(1.0, 9.0, 2.0, 4.0))
    asked = {"last": 4, "best": 9, "mean_last_2": 3, "return": 4, "return/best": 9, "return/mean_last_3": 5,
             "training_return": 5.5, "env_steps_total": 300}  # fmt: skip
    assert {text: objective_of(run, text) for text in asked} == asked
    assert objective_of(make_run(tmp_path / "outputs", seed=1, status="RUNNING"), "training_return") is None

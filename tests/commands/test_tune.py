"""`llmrl tune`: a search on disk that several workers share, is pruned, killed and gone on with; and its preset."""

import json
import signal
from pathlib import Path

import pytest
from command_line import in_process  # noqa: F401 (the fixture llmrl)
from conftest import CART_POLE, Process, compose, run_directories, status

from llmrl.conf_files import conf_roots, extra_roots
from llmrl.runs.files import read_json
from llmrl.runs.identity import DONE, INTERRUPTED, RunDirectory
from llmrl.tuning import space, study
from llmrl.tuning.preset import preset

optuna = pytest.importorskip("optuna")
RATE = ["--param", "agent.learning_rate=log(1e-5,1e-2)"]
SEARCH = [*CART_POLE, "study=lr", *RATE, "--param", "agent.replay_size=uniform(40,80)"]


def trials(folder: Path) -> dict[int, tuple]:
    """{number: (state, value, params)} of the study below `folder`."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    journal = str(folder / "outputs" / "lr" / "tune" / "journal.log")
    storage = JournalStorage(JournalFileBackend(journal, JournalFileOpenLock(journal)))
    found = optuna.load_study(study_name="llmrl", storage=storage).get_trials()
    return {trial.number: (trial.state.name, trial.value, trial.params) for trial in found}


def started(folder: Path, *args: str) -> Process:
    return Process(list(args), folder, command="tune")


def test_a_search_ends_in_a_preset_and_goes_on_with_more_trials(llmrl, tmp_path, monkeypatch):
    done = llmrl("tune", *SEARCH, "--trials", "2")
    assert done.code == 0 and "experiment=tuned/lr" in done.out
    found = trials(tmp_path)
    assert [state for state, _, _ in found.values()] == ["COMPLETE"] * 2
    more = llmrl("tune", *SEARCH, "--trials", "3", "--seeds", "0")
    assert more.code == 0 and more.err.count("trial ") - more.err.count(", trial ") == 1
    found = trials(tmp_path)
    configs = [read_json(run / "config.json") for run in run_directories(tmp_path / "outputs")]
    drawn = {(config["agent"]["learning_rate"], config["agent"]["replay_size"]) for config in configs}
    assert drawn == {(p["agent.learning_rate"], p["agent.replay_size"]) for _, _, p in found.values()}
    assert len(drawn) == 3 and all(isinstance(size, int) for _, size in drawn)
    best = max(found.values(), key=lambda trial: trial[1])
    monkeypatch.setenv("LLMRL_PATH", str(tmp_path / "outputs" / "lr" / "tune"))
    for cached in (extra_roots, conf_roots):
        getattr(cached, "cache_clear", lambda: None)()
    again = llmrl("run", "experiment=tuned/lr", "seed=0", "log.progress=false", "study=lr")
    extra_roots.cache_clear()
    assert again.code == 0 and "Done before" in again.out  # the preset is the best trial's run
    assert (
        f"{best[2]['agent.learning_rate']}" in (tmp_path / "outputs/lr/tune/conf/experiment/tuned/lr.yaml").read_text()
    )


@pytest.mark.parametrize(
    ("param", "named"),
    [
        ("agent.learning_rat=log(1e-5,1e-2)", "agent.learning_rate"),
        ("agent.learning_rate=lgo(1e-5,1e-2)", "`log`"),
        ("agent.learning_rate=log(0,1e-2)", "0 < low < high"),
        ("agent.learning_rate=uniform(a,b)", "two numbers"),
        ("agent.learning_rate=log(1e-5,1e-2", "KEY=SPACE"),
        ("agent.gamma=uniform(0.9,1.5)", "agent.gamma"),
        ("agent.replay_size=uniform(50.5,80)", "agent.replay_size"),
        ("agent.dueling=uniform(0,1)", "agent.dueling"),
        ("wrapper=choice(none,non)", "`none`"),
        ("log.every=choice(1,2)", "log.every"),
        ("agent.batch_size=choice(8,16)", "given twice"),
    ],
)
def test_a_bad_param_is_refused_before_anything_is_trained(llmrl, tmp_path, param, named):
    done = llmrl("tune", *CART_POLE, "--param", param)
    assert done.code == 2 and named in done.err, done.err
    assert list(tmp_path.iterdir()) == []


def test_what_else_is_invalid(llmrl, tmp_path):
    assert "--param" in llmrl("tune", *CART_POLE).err
    assert "Did you mean `last`?" in llmrl("tune", *CART_POLE, *RATE, "objective=lst").err
    assert "objective" in llmrl("run", *CART_POLE, "objective=lst").err
    assert llmrl("tune", *CART_POLE, *RATE, "-j", "0").code == 2
    assert list(tmp_path.iterdir()) == []
    search = [*CART_POLE, "study=lr", *RATE]
    assert llmrl("tune", *search, "--trials", "1").code == 0
    other = llmrl("tune", *search, "agent.gamma=0.5", "--trials", "1")
    assert other.code == 2 and "other overrides" in other.err and "study=" in other.err


def test_spaces(tmp_path):
    rate, size, agent = space.parse(
        ["agent.learning_rate=log(1e-5,1e-2)", "agent.replay_size=log(100,1000)", "agent.hidden=choice([16],[8,8])"],
        [text for text in CART_POLE if "hidden=" not in text],
    )
    assert (rate.whole, size.whole, agent.choices) == (False, True, ("[16]", "[8,8]"))
    trial = optuna.trial.FixedTrial(
        {"agent.learning_rate": 0.1 + 0.2, "agent.replay_size": 256, "agent.hidden": "[8,8]"}
    )
    assert rate.suggest(optuna.trial.FixedTrial({"agent.learning_rate": 0.003})) == "agent.learning_rate=0.003"
    assert size.suggest(trial) == "agent.replay_size=256" and agent.suggest(trial) == "agent.hidden=[8,8]"


def test_a_preset_composes_what_its_overrides_do(tmp_path, monkeypatch):
    overrides = ["experiment=lesr/hopper", "agent=sac", "env=mujoco/half_cheetah", "agent.learning_rate=1e-05",
                 "method.search.lipschitz=spectral_norm", "study=x", "seed=3", "log.every=5"]  # fmt: skip
    file = tmp_path / "conf" / "experiment" / "mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(preset(overrides, "Mine."))
    monkeypatch.setenv("LLMRL_PATH", str(tmp_path))
    extra_roots.cache_clear()
    from llmrl.hydra_compose import compose as composed

    own, theirs = composed(["experiment=mine", *overrides[-3:]]), composed(overrides)
    extra_roots.cache_clear()
    assert own.pop("choices") | {"experiment": None} == theirs.pop("choices") | {"experiment": None}
    assert own == theirs


def test_what_is_worse_than_most_is_stopped_with_a_checkpoint(llmrl, tmp_path, monkeypatch):
    """Each run is worse than those before: from the sixth on they are below the median at their first evaluation."""
    seen: list[str] = []

    def worse(run: Path, text: str) -> float:
        seen.append(str(run)) if str(run) not in seen else None
        return -float(seen.index(str(run)))

    monkeypatch.setattr(study, "objective_of", worse)
    done = llmrl("tune", *SEARCH, "--trials", "7")
    assert done.code == 0 and done.err.count(": pruned (best: 0, trial 0)") == 2
    assert [state for state, _, _ in trials(tmp_path).values()] == ["COMPLETE"] * 5 + ["PRUNED"] * 2
    ends = [status(Path(tmp_path / run)) for run in seen]
    assert ends == [DONE] * 5 + [INTERRUPTED] * 2
    assert all((tmp_path / run / "checkpoint").exists() for run in seen[5:])


def test_killed_at_a_trial_it_goes_on_with_it(llmrl, tmp_path):
    """The trials, their values and the runs' bytes are those of a search that nobody killed."""
    search = [*SEARCH, "budget.env_steps=1500", "eval.every=500"]
    here, there = tmp_path / "killed", tmp_path / "whole"
    here.mkdir()
    there.mkdir()
    process = started(here, *search, "--trials", "2")
    assert process.until(lambda: any(status(run) == "RUNNING" for run in run_directories(here))), process.end().err
    process.send(signal.SIGKILL)
    (left,) = run_directories(here)
    assert trials(here)[0][0] == "RUNNING" and RunDirectory(left).status()["status"] == INTERRUPTED
    for folder in (here, there):
        again = started(folder, *search, "--trials", "2").end()
        assert again.code == 0, again.err
    assert trials(here) == trials(there)
    assert [state for state, _, _ in trials(here).values()] == ["COMPLETE"] * 2
    runs = [{run.name: run for run in run_directories(folder)} for folder in (here, there)]
    assert runs[0].keys() == runs[1].keys() and len(runs[0]) == 2
    for name, run in runs[0].items():
        assert (run / "eval.jsonl").read_bytes() == (runs[1][name] / "eval.jsonl").read_bytes()


def test_several_workers_share_a_study(tmp_path):
    """Two commands, one with two workers: so many trials as were asked for, each of them made once."""
    both = [started(tmp_path, *SEARCH, "--trials", "6", "-j", "2"), started(tmp_path, *SEARCH, "--trials", "6")]
    for process in both:
        done = process.end()
        assert done.code == 0, done.err
    found = trials(tmp_path)
    assert [state for state, _, _ in found.values()] == ["COMPLETE"] * 6
    drawn = {json.dumps(params) for _, _, params in found.values()}
    assert len(drawn) == 6 == len(run_directories(tmp_path))


def test_a_signal_ends_the_search_with_a_checkpoint(tmp_path):
    process = started(tmp_path, *SEARCH, "budget.env_steps=100000", "eval.every=500", "-j", "2")
    both = lambda: sum(status(run) == "RUNNING" for run in run_directories(tmp_path)) == 2  # noqa: E731
    assert process.until(both), process.end().err
    done = process.send(signal.SIGTERM, timeout=60)
    assert done.code == 128 + signal.SIGTERM, done.err
    assert [status(run) for run in run_directories(tmp_path)] == [INTERRUPTED] * 2
    assert {state for state, _, _ in trials(tmp_path).values()} == {"RUNNING"}


def test_the_default_objective_needs_no_report():
    assert compose(CART_POLE)["objective"] == "last"

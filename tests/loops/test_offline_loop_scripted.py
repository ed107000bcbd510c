"""The offline loop by absolute values: a learner, a source and a log that keep what they are given."""

import math
import signal

import pytest
import torch
from test_online_loop import Clocked, Found, SpyCheckpoints, SpyLog, StopAt, rows

from llmrl.contracts.explorer import Clock
from llmrl.loops import training
from llmrl.loops.offline import OfflineTraining
from llmrl.loops.training import Schedule, TrainingDiverged
from llmrl.runs import seeding
from llmrl.runs.stop import Stop, Stopped


class Numbers:
    """Batches 1, 2, 3, …, and one random number for each."""

    def __init__(self):
        self.drawn, self.random = 0, []

    def draw(self, rng):
        self.drawn += 1
        self.random.append(rng.random())
        return self.drawn


class SpyLearner:
    """Its loss is ten times the batch; every third update also tells `actor_loss`."""

    def __init__(self, loss=lambda batch: 10.0 * batch):
        self.loss, self.learned = loss, []

    def update(self, batch):
        self.learned.append(batch)
        out = {"loss": torch.tensor(self.loss(batch)), "each": torch.ones(2)}
        return out | ({"actor_loss": torch.tensor(-float(batch))} if batch % 3 == 0 else {})

    def state_dict(self):
        return {"learned": len(self.learned)}

    def load_state_dict(self, state):
        self.learned = [0] * state["learned"]


def training_of(updates, learner=None, *, evaluate_every=1000, log_every=1000, every_s=math.inf, stop=None, **more):
    one = OfflineTraining(
        learner or SpyLearner(), Numbers(), seed=7,
        schedule=Schedule(updates, evaluate_every, log_every, every_s),
        evaluate=lambda clock: one.evaluated.append((clock.env_steps, clock.updates, clock.episodes)),
        log=SpyLog(), checkpoints=SpyCheckpoints(), stop=stop or Stop(),
        report=lambda clock, facts: one.reports.append((clock.updates, dict(facts))), **more,
    )  # fmt: skip
    one.evaluated, one.reports = [], []
    return one


def trained(*args, **settings):
    one = training_of(*args, **settings)
    assert one.run() == one.clock
    return one


def test_an_update_takes_one_batch_and_is_counted():
    one = trained(5)
    assert one.learner.learned == [1, 2, 3, 4, 5] and one.clock == Clock(env_steps=0, updates=5, episodes=0)
    rng = seeding.generator(7, "replay")
    assert one.source.random == [rng.random() for _ in range(5)]
    assert trained(0).learner.learned == []


@pytest.mark.parametrize(
    ("every", "updates", "at"),
    [(3, 9, [0, 3, 6, 9]), (4, 9, [0, 4, 8, 9]), (100, 3, [0, 3]), (1, 2, [0, 1, 2]), (5, 0, [0])],
)
def test_evaluations_come_at_multiples_and_at_the_end(every, updates, at):
    one = trained(updates, evaluate_every=every)
    assert one.evaluated == [(0, x, 0) for x in at]


def test_numbers_are_logged_as_they_were_last_at_the_updates_that_are_due():
    one = trained(8, log_every=2)
    assert rows(one, "train") == [
        {"env_steps": 0, "updates": 2, "episodes": 0, "loss": 20.0},
        {"env_steps": 0, "updates": 4, "episodes": 0, "loss": 40.0, "actor_loss": -3.0},
        {"env_steps": 0, "updates": 6, "episodes": 0, "loss": 60.0, "actor_loss": -6.0},
        {"env_steps": 0, "updates": 8, "episodes": 0, "loss": 80.0, "actor_loss": -6.0},
    ]


def test_held_out_numbers_stand_beside_each_evaluation():
    order, one = [], None
    one = training_of(4, evaluate_every=2, validate=lambda: order.append("validate") or {"mse": len(order) / 2})
    one.evaluate = lambda clock: order.append("evaluate")
    one.run()
    assert order == ["validate", "evaluate"] * 3
    assert rows(one, "validation") == [
        {"env_steps": 0, "updates": u, "episodes": 0, "mse": m} for u, m in ((0, 0.5), (2, 1.5), (4, 2.5))]  # fmt: skip
    assert one.reports[0] == (0, {"mse": 0.5}) and one.reports[1] == (2, {"loss": 20.0, "mse": 1.5})
    assert one.reports[-1] == (4, {"loss": 40.0})


def test_numbers_that_are_not_finite_end_the_training_and_leave_no_evaluation():
    one = training_of(9, SpyLearner(lambda batch: math.nan if batch > 4 else 1.0), log_every=3, evaluate_every=100)
    with pytest.raises(TrainingDiverged, match="loss is nan at 6 updates"):
        one.run()
    assert [row["updates"] for row in rows(one, "train")] == [3] and one.checkpoints.saved == []
    one = training_of(9, validate=lambda: {"mse": math.inf})
    with pytest.raises(TrainingDiverged, match="mse is inf at 0 updates"):
        one.run()
    assert one.evaluated == [] and rows(one, "validation") == []


@pytest.fixture
def seconds(monkeypatch):
    """A second passes at each update."""
    clock = Clocked()
    monkeypatch.setattr(training, "time", clock)
    update = SpyLearner.update
    monkeypatch.setattr(SpyLearner, "update", lambda s, b: (setattr(clock, "now", clock.now + 1), update(s, b))[1])
    return clock


def test_checkpoints_are_made_when_their_time_has_come(seconds):
    one = trained(11, every_s=3.0)
    assert [state["clock"]["updates"] for state, *_ in one.checkpoints.saved] == [3, 6, 9]
    state, buffer, offsets = one.checkpoints.saved[1]
    assert (state["agent"], state["evaluated_at"], offsets) == ({"learned": 6}, 0, {"metrics": 0})
    assert float(state["last_update"]["loss"]) == 60.0 and float(state["last_update"]["actor_loss"]) == -6.0
    assert "each" not in state["last_update"]
    assert buffer.rings() == {} and buffer.state_dict() == {}
    rng = seeding.generator(7, "replay")
    for _ in range(6):
        rng.random()
    assert state["rng"] == rng.bit_generator.state


def test_a_person_hears_of_it_once_a_second_at_most_and_at_evaluations_and_the_end(seconds):
    one = trained(8, evaluate_every=5)
    assert [updates for updates, _ in one.reports] == [0, 2, 4, 5, 7, 8, 8]
    assert [(r["updates"], r["updates_per_s"]) for r in one.log.times] == [
        (0, 0.0), (2, 1.0), (4, 1.0), (5, 1.0), (7, 1.0), (8, 1.0), (8, 0.0)]  # fmt: skip
    assert one.log.times[1]["time"] == 1e9 + 2 and len(one.log.flushed) == 8


@pytest.mark.parametrize("at", [0, 3])
def test_a_stop_leaves_a_checkpoint_of_the_pass_that_was_about_to_begin(at):
    one = training_of(9, stop=StopAt(at))
    with pytest.raises(Stopped) as stopped:
        one.run()
    assert stopped.value.signum == signal.SIGTERM and one.log.was_cut == [{}]
    assert [state["clock"]["updates"] for state, *_ in one.checkpoints.saved] == [at]


def test_what_fails_inside_an_update_saves_nothing_and_what_fails_between_saves():
    def failing(batch):
        raise RuntimeError("no")

    one = training_of(9, SpyLearner(failing))
    with pytest.raises(RuntimeError):
        one.run()
    assert one.checkpoints.saved == []
    one = training_of(9, validate=lambda: 1 / (2 - len(one.learner.learned)) * {}, evaluate_every=1)
    with pytest.raises(TypeError):
        one.run()
    assert [state["clock"]["updates"] for state, *_ in one.checkpoints.saved] == [0]


def test_a_resumed_training_goes_on_with_every_counter(seconds):
    first = training_of(9, stop=StopAt(4), evaluate_every=4)
    with pytest.raises(Stopped):
        first.run()
    ((state, *_),) = first.checkpoints.saved
    one = training_of(9, evaluate_every=4, log_every=5)
    one.checkpoints = Found(state, {"metrics": 1})
    one.source.drawn = 4
    one.run()
    assert one.reports[0] == (4, {"warning": "the newest was damaged"}) and one.log.was_cut == [{"metrics": 1}]
    assert one.learner.learned == [0, 0, 0, 0, 5, 6, 7, 8, 9] and first.evaluated == [(0, 0, 0), (0, 4, 0)]
    assert one.evaluated == [(0, 8, 0), (0, 9, 0)], "that of 4 was made before"
    rng = seeding.generator(7, "replay")
    assert first.source.random + one.source.random == [rng.random() for _ in range(9)]
    assert rows(one, "train") == [{"env_steps": 0, "updates": 5, "episodes": 0, "loss": 50.0, "actor_loss": -3.0}]
    assert one.log.times[0]["updates_per_s"] == 1.0

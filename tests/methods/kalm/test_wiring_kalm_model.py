"""Every key of KALM's language model does what it says: another value, another object or another number."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small_kalm import SIZES, Small, changed, composed, made_rollouts, plain_llama, settings
from wiring import wires

from llmrl.loops import offline
from llmrl.methods.kalm import model as kalm_model
from llmrl.methods.kalm.model.tasks import GENERATION, Pairs
from llmrl.methods.kalm.model.training import compiles, precision
from llmrl.runs.stop import Stop

CPU = torch.device("cpu")


def weights(**changes):
    return {name: tuple(p.shape) for name, p in Small(settings(**changes)).model.state_dict().items()}


@wires(*(f"Sizes.{key}" for key in SIZES), "Model.sizes")
@pytest.mark.parametrize("key", SIZES)
def test_the_sizes_of_a_model_from_nothing(key):
    small = Small(settings(sizes=SIZES | {key: SIZES[key] * 2 if key != "heads" else 1}))
    block = small.model.lm.blocks[0]
    heads = small.model.lm.sizes.heads
    sizes = (block.out.in_features, len(small.model.lm.blocks), heads, block.down.in_features)
    expected = {"hidden": (32, 2, 2, 24), "layers": (16, 4, 2, 24), "heads": (16, 2, 1, 24)}
    assert sizes == expected.get(key, (16, 2, 2, 48)) and small.model.hidden == sizes[0]


@wires("Model.goal", "Model.goal_slots", "Model.encoder", "Model.state_embedding")
def test_how_goals_and_states_get_in():
    assert weights(goal="encoder", goal_slots=3)["grounding.goal_in.weight"] == (3 * 16, 64)
    assert "grounding.goal_in.weight" not in weights(goal="tokens")
    assert weights(state_embedding="mlp")["grounding.state_in.0.weight"] == (512, 10)
    assert weights(state_embedding="linear")["grounding.state_in.0.weight"] == (16, 10)
    for slots in (2, 5):
        small = Small(settings(goal="encoder", goal_slots=slots))
        written = small.write(GENERATION, small.rollouts, np.arange(3), np.arange(3)).sequences
        assert len(written.vector_at) == 3 * slots
    asked = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kalm_model.text, "encode", lambda name, texts: asked.append(name) or np.zeros((len(texts), 64)))
        for encoder in ("words", "minilm"):
            kalm_model.writer(settings(goal="encoder", encoder=encoder), ("a b",), small.tokenizer)
    assert asked == ["words", "minilm"]


@wires("Model.state_head", "Model.state_unit")
def test_what_the_state_head_gives():
    hidden, before = torch.randn(4, 16), torch.randn(4, 10)
    found = {}
    for head, unit in (("state", 1.0), ("state", 0.5), ("change", 1.0)):
        small = Small(settings(state_head=head, state_unit=unit))
        found[head, unit] = small.model.predicted_states(hidden, before).detach()
        seen = small.model.grounding["state_in"](before / unit)
        assert torch.equal(small.model.embed_states(before), seen)
    torch.testing.assert_close(found["state", 0.5], 0.5 * found["state", 1.0])
    torch.testing.assert_close(found["change", 1.0], before + found["state", 1.0])


@wires("Model.pretrained", "Model.keep_layers", "Model.adapter", "Model.lora_rank", "Model.lora_alpha")
def test_a_pretrained_model_and_its_adapters(tmp_path):
    small = Small()
    plain_llama(small).save_pretrained(tmp_path)
    small.tokenizer.save_pretrained(tmp_path)
    base = {"pretrained": str(tmp_path), "precision": "float32", "encoder": "words"}
    full = Small(settings("qwen", **base, adapter="full"))
    tables = [one.model.lm.get_input_embeddings().weight for one in (full, small)]
    assert torch.equal(*tables)  # not begun anew
    assert len(Small(settings("qwen", **base, keep_layers=1)).model.lm.model.layers) == 1
    assert set(full.model.learned()) == {name for name, _ in full.model.named_parameters()}
    for rank, alpha in ((2, 4.0), (3, 12.0)):
        adapted = Small(settings("qwen", **base, adapter="lora", lora_rank=rank, lora_alpha=alpha))
        learned = {name: p for name, p in adapted.model.learned().items() if "lora_A" in name}
        assert learned and all(len(p) == rank for p in learned.values())
        scaling = [
            m.scaling["default"] for m in adapted.model.modules() if isinstance(getattr(m, "scaling", None), dict)
        ]
        assert scaling and set(scaling) == {alpha / rank}


@wires("Model.precision")
def test_matrix_products_in_the_asked_for_precision():
    for name, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        with precision(settings(precision=name), CPU):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


@wires("Model.compile")
def test_what_is_compiled():
    for compile_ in ("true", "false"):
        assert compiles(settings(compile=compile_), 10, CPU) == (compile_ == "true")
    with pytest.raises(ValueError, match="compile: a pretrained model"):
        settings("qwen", compile="true")


@wires("Model.epochs", "Model.updates")
def test_how_long_it_is_trained():
    config = composed("kalm/model").method
    for changes, updates in (({"updates": 7}, 7), ({"updates": None, "epochs": 2.0}, 150)):
        model = dataclasses.replace(config.model, batch_size=4, accumulation=3, **changes)
        assert kalm_model.updates_of(dataclasses.replace(config, model=model, tasks=(0, 1, 3)), 300) == updates


class Trained:
    """What an offline training is given, in place of the training; a batch is drawn."""

    def __init__(self, learner, source, *, seed, schedule, **others):
        self.learner, self.source, self.seed, self.schedule = learner, source, seed, schedule
        self.batch, self.row = source.draw(np.random.default_rng(0)), others["validate"]()

    def run(self):
        TRAINED.append(self)


TRAINED: list[Trained] = []


def training_of(directory, monkeypatch, *, tasks=(0, 1, 3), seed=0, **changes):
    """What kalm_model trains, and the model that it leaves."""
    monkeypatch.setattr(offline, "OfflineTraining", Trained)
    base = composed("kalm/model").method
    model = dataclasses.replace(base.model, **{"updates": 6, "validation_rollouts": 2, "batch_size": 6} | changes)
    config = changed("kalm/model", model=model, tasks=tasks, seed=seed)
    others = dict.fromkeys(("log", "checkpoints", "report"))
    directory.mkdir(exist_ok=True)
    kalm_model.KALMModel()._train(SimpleNamespace(cfg=config, dir=directory, stop=Stop(), **others), made_rollouts(20))
    return TRAINED[-1]


@wires("Model.scheduled_sampling")
def test_what_a_learner_reads_of_its_own():
    weights = []
    for share in (0.0, 0.0, 1.0):
        small = Small(settings(), made_rollouts(20))
        learner = small.learner(scheduled_sampling=share)
        learner.update(Pairs(small.labelled, small.write, (0, 1, 3), 12).draw(np.random.default_rng(0)))
        weights.append(torch.cat([p.detach().flatten() for p in small.model.parameters()]))
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


@wires("Model.batch_size", "Model.accumulation", "Model.evaluations", "Model.validation", "Model.validation_rollouts",
       "Model.state_noise", "kalm/model.tasks", "kalm/model.seed", "kalm/model.model")  # fmt: skip
def test_what_a_training_is_given(tmp_path, monkeypatch):
    def rows(group):
        return group.sequences.shapes[0][0]

    plain = training_of(tmp_path, monkeypatch)
    assert [[rows(group) for group in part] for part in plain.batch] == [[2, 2, 2]]
    assert (plain.schedule.length, plain.schedule.evaluate_every, plain.seed, plain.learner.total) == (6, 1, 0, 6)
    other = training_of(tmp_path, monkeypatch, batch_size=8, accumulation=2, evaluations=3, tasks=(0, 2), seed=4)
    assert [[rows(group) for group in part] for part in other.batch] == [[4, 4], [4, 4]]
    assert (other.schedule.evaluate_every, other.seed) == (2, 4)
    assert "explanation_accuracy" in plain.row and "explanation_accuracy" not in other.row
    assert "consequence_state_mse" in other.row and "dynamics_state_mse" not in other.row
    first = "lm.embed_tokens.weight"
    assert not torch.equal(plain.learner.model.state_dict()[first], other.learner.model.state_dict()[first])
    same = training_of(tmp_path, monkeypatch)
    assert torch.equal(plain.learner.model.state_dict()[first], same.learner.model.state_dict()[first])
    assert training_of(tmp_path, monkeypatch, state_noise=0.1).source._noise == 0.1 and same.source._noise == 0
    more = training_of(tmp_path, monkeypatch, validation_rollouts=7, validation=0.4)
    assert more.row != same.row
    sizes = [len(one.source._data.rollouts) for one in (same, more)]
    assert sizes == [18, 12]
    few = training_of(tmp_path, monkeypatch, validation_rollouts=1, validation=0.4)
    assert few.row["dynamics_state_mse"] != more.row["dynamics_state_mse"]


def step(**changes):
    """(what an update says, weights before, weights after) of a first update."""
    small = Small()
    learner = small.learner(updates=10, **changes)
    before = {name: p.detach().clone() for name, p in small.model.named_parameters()}
    groups = [small.write(task, small.rollouts, np.arange(4), np.arange(4), np.zeros(4, int), (1 / 4, 1 / 4, 1 / 4))
              for task in (0, 1, 3)]  # fmt: skip
    told = learner.update([groups])
    return told, before, {name: p.detach() for name, p in small.model.named_parameters()}


@wires("Model.learning_rate", "Model.weight_decay", "Model.clip")
def test_how_an_update_moves_the_weights():
    plain = {"learning_rate": 1e-3, "weight_decay": 0.0, "clip": 1.0}
    told, before, after = step(**plain)
    moved = torch.cat([(after[name] - before[name]).abs().flatten() for name in before])
    assert moved.max().item() == pytest.approx(1e-3, rel=1e-3)  # Adam's first step
    _, _, faster = step(**plain | {"learning_rate": 5e-3})
    moved = torch.cat([(faster[name] - before[name]).abs().flatten() for name in before])
    assert moved.max().item() == pytest.approx(5e-3, rel=1e-3)
    _, _, decayed = step(**plain | {"weight_decay": 10.0})
    for name in before:  # 10 * 1e-3 of each weight
        torch.testing.assert_close(after[name] - decayed[name], 0.01 * before[name], rtol=1e-2, atol=2e-6)
    clipped, _, still = step(**plain | {"clip": 1e-12})
    assert torch.cat([(still[name] - before[name]).abs().flatten() for name in before]).max() < 1e-6
    assert clipped["gradient"] == told["gradient"]  # as it was before it was clipped


@wires("Model.state_weight", "Model.action_weight", "Model.token_weight")
def test_the_weights_of_the_losses():
    plain = {"state_weight": 0.5, "action_weight": 0.5, "token_weight": 1.0}
    told, *_ = step(**plain)
    for kind in ("state", "action", "token"):
        other, *_ = step(**plain | {f"{kind}_weight": 3.0})
        for name in ("state", "action", "token"):
            factor = 3 / plain[f"{kind}_weight"] if name == kind else 1
            assert other[f"{name}_loss"].item() == pytest.approx(factor * told[f"{name}_loss"].item(), rel=1e-5)
        losses = [other[f"{name}_loss"].item() for name in ("state", "action", "token")]
        assert other["loss"].item() == pytest.approx(sum(losses), rel=1e-5)


def test_the_rate_falls_to_zero_linearly():
    small = Small()
    learner = small.learner(updates=4, learning_rate=1e-2, clip=1e9)
    group = small.write(1, small.rollouts, np.arange(4), np.arange(4), np.zeros(4, int), (1 / 4, 1, 1))
    rates = []
    for _ in range(4):
        learner.update([[group]])
        rates.append(learner.state_dict()["adam"]["param_groups"][0]["lr"])
    np.testing.assert_allclose(rates, [1e-2, 0.75e-2, 0.5e-2, 0.25e-2])

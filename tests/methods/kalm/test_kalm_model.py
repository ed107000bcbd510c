"""KALM's grounded language model: losses, positions, batches, adapters, files, and a training that is stopped."""

import copy
import shutil
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from local_weights import brought  # noqa: F401 (the fixture smollm2)
from small_kalm import SIZES, Small, made_rollouts, plain_llama, settings
from torch.nn import functional as F

from llmrl.checks import ConfigError
from llmrl.envs.clevr_robot.rollouts import save as save_rollouts
from llmrl.methods.kalm import data as kalm_data
from llmrl.methods.kalm import model as kalm_model
from llmrl.methods.kalm.model.network import check, keep_first, make
from llmrl.methods.kalm.model.tasks import (
    CONSEQUENCE,
    DYNAMICS,
    EXPLANATION,
    GENERATION,
    PROMPTS,
    UNSEEN,
    Pairs,
    joined,
    words,
)
from llmrl.methods.kalm.model.tokenizer import word_level
from llmrl.methods.kalm.model.training import explained, with_own_predictions
from llmrl.runs.checkpoint import Checkpoints
from llmrl.runs.files import read_jsonl
from llmrl.runs.log import RunLog
from llmrl.runs.stop import Stop, Stopped

transformers = pytest.importorskip("transformers")
ALL = (GENERATION, DYNAMICS, CONSEQUENCE, EXPLANATION)


def one_by_one(small, task, i, text, at):
    """The losses of one sample, slot by slot: lists of squared errors, of actions' and of tokens' cross entropies."""
    model, lm, rollouts = small.model, small.model.lm, small.rollouts
    rows, asked = [], []  # embeddings; what a position shall hold, and its number

    def put_words(ids, *, predicted=False):
        for number in ids:
            if predicted:
                asked.append(("token", len(rows), number, None))
            rows.append(lm.get_input_embeddings().weight[number])

    def put_state(state, before=None):
        state = torch.tensor(state)
        if before is not None:
            asked.append(("state", len(rows), state, torch.tensor(before)))
        rows.append(model.embed_states(state[None])[0])

    def put_action(action, *, predicted=False):
        if predicted:
            asked.append(("action", len(rows), int(action), None))
        rows.append(model.embed_actions(torch.tensor([int(action)]))[0])

    put_words([small.tokenizer.bos_token_id])
    sentence, length = small.texts[text], rollouts.lengths[i]
    states, actions = rollouts.observations[i, : length + 1], rollouts.actions[i]
    for part in PROMPTS[task].replace("}", "} ").replace("{", " {").split():
        if part == "{goal}" and small.write.sentences.vectors is not None:
            vector = torch.from_numpy(small.write.sentences.vectors[text])
            rows.extend(model.grounding["goal_in"](vector).view(-1, model.hidden))
        elif part == "{goal}":
            put_words(words(small.tokenizer, sentence))
        elif part == "{answer}":
            put_words(words(small.tokenizer, sentence + " ."), predicted=True)
            break
        elif part == "{rollout}":
            predicted = task == GENERATION
            for t in range(length + 1):
                before = (states[t - 1] if t else np.zeros(10, np.float32)) if predicted else None
                put_state(states[t], before)
                if t < length:
                    put_action(actions[t], predicted=predicted)
        elif part == "{state}":
            put_state(states[at])
        elif part == "{action}":
            put_action(actions[at])
        elif part in ("{next}", "{last}"):
            put_state(states[at + 1] if part == "{next}" else states[length], states[at])
        else:
            put_words(words(small.tokenizer, part, first=True))
    hidden = lm(torch.stack(rows), [(1, len(rows))])
    found = {"state": [], "action": [], "token": []}
    for kind, position, value, before in asked:
        h = hidden[position - 1]  # the position before
        if kind == "state":
            error = model.predicted_states(h[None], before[None])[0] - value
            found[kind].append((error / small.config.state_unit).square().mean())
        else:
            logits = model.action_logits(h) if kind == "action" else model.token_logits(h)
            found[kind].append(F.cross_entropy(logits, torch.tensor(value)))
    return [torch.stack(losses).mean() if losses else None for losses in found.values()]


@pytest.mark.parametrize(
    "changes",
    [{"goal": "encoder"}, {"goal": "tokens", "state_head": "state", "state_embedding": "linear", "state_unit": 1.0}],
    ids=["tiny", "as_the_authors"],
)
def test_losses_are_means_over_samples_of_means_over_slots(changes):
    small = Small(settings(**changes))
    rng = np.random.default_rng(1)
    which, text = rng.integers(12, size=(4, 3)), rng.integers(len(small.texts), size=(4, 3))
    at = rng.integers(small.rollouts.lengths[which])
    at[CONSEQUENCE] = 0
    shares = (1 / 9, 1 / 3, 1 / 3)  # three samples of each task; all but explanation have states
    groups = [small.write(k, small.rollouts, which[k], text[k], at[k], shares) for k in ALL]
    learner = small.learner()
    ours = sum(learner._losses(group) for group in groups)
    alone = [one_by_one(small, k, int(i), int(x), int(t)) for k in ALL for i, x, t in zip(which[k], text[k], at[k])]
    plain = [torch.stack([loss for loss in kind if loss is not None]).mean() for kind in zip(*alone)]
    np.testing.assert_allclose(
        ours.detach(), [0.5 * plain[0].item(), 0.5 * plain[1].item(), plain[2].item()], rtol=1e-5
    )
    before = copy.deepcopy(small.model.state_dict())
    told = learner.update([groups, groups])  # twice the same part has the same mean
    np.testing.assert_allclose(float(told["loss"]), ours.sum().item(), rtol=1e-5)
    assert any((before[name] != value).any() for name, value in small.model.state_dict().items())


def test_what_stands_in_a_slot_changes_what_is_predicted_after_it_alone():
    small = Small()
    rollout = made_rollouts(1, longest=1).take(np.zeros(4, int))
    states, which, text = rollout.observations.copy(), np.arange(4), np.zeros(4, int)
    states[1, 0] += 1  # s0
    states[2, 1] += 1  # s1
    actions = rollout.actions.copy()
    actions[3, 0] = (actions[3, 0] + 1) % 40
    changed = type(rollout)(**vars(rollout) | {"observations": states, "actions": actions})
    group = small.write(GENERATION, changed, which, text)
    hidden = [small.model(group.sequences, at) for at in (group.states.at, group.actions.at)]
    state = small.model.grounding["state_out"](hidden[0]).view(4, 2, 10).detach()
    action = small.model.action_logits(hidden[1]).detach()
    same = lambda a, b: bool(torch.isclose(a, b, atol=1e-6).all())  # noqa: E731
    assert all(same(state[0, 0], state[row, 0]) for row in (1, 2, 3))  # s0, from the words
    assert not same(action[0], action[1]) and same(action[0], action[2]) and same(action[0], action[3])  # a0, from s0
    assert not same(state[0, 1], state[1, 1]) and same(state[0, 1], state[2, 1]) and not same(state[0, 1], state[3, 1])


def test_a_batch_holds_every_task_and_every_rollout_is_as_likely():
    small = Small(rollouts=made_rollouts(40, longest=9))
    pairs = Pairs(small.labelled, small.write, (0, 1, 3), size=7, parts=2)
    draw = lambda: pairs.draw(np.random.default_rng(5))  # noqa: E731
    batch = draw()
    assert [[group.sequences.shapes[0][0] for group in part] for part in batch] == [[3, 2, 2]] * 2
    generation, dynamics, explanation = batch[0]
    assert generation.states.weight.sum() == pytest.approx(3 / 5) and dynamics.states.weight.sum() == pytest.approx(0.4)
    assert generation.actions.weight.sum() == pytest.approx(1) and explanation.tokens.weight.sum() == pytest.approx(1)
    assert all(torch.equal(a.sequences.states, b.sequences.states) for a, b in zip(batch[0], draw()[0]))
    pairs._write = lambda task, rollouts, which, *rest, read: which
    rng = np.random.default_rng(0)
    drawn = np.concatenate([pairs._group(EXPLANATION, 4, (1, 1, 1), rng) for _ in range(8000)])
    counts = np.bincount(drawn, minlength=40)
    assert abs(counts / counts.mean() - 1).max() < 0.35  # five deviations, of groups from buckets of one or two


def test_states_are_read_with_noise_and_predicted_without():
    """The first of a rollout is read as it is, and what a change is added to is what was read, as in imagining."""
    small, deviation = Small(rollouts=made_rollouts(40, longest=9)), 0.05
    plain, noisy = (Pairs(small.labelled, small.write, (0, 1, 3), 60, noise=noise).draw(np.random.default_rng(3))[0][0]
                    for noise in (0.0, deviation))  # fmt: skip
    assert all(torch.equal(a, b) for a, b in ((plain.states.target, noisy.states.target),
                                              (plain.sequences.state_at, noisy.sequences.state_at)))  # fmt: skip
    error = noisy.sequences.states - plain.sequences.states
    rows = plain.sequences.state_at // plain.sequences.shapes[0][1]
    first = torch.cat([torch.tensor([True]), rows[1:] != rows[:-1]])
    assert not error[first].any() and error[~first].std() == pytest.approx(deviation, rel=0.1)
    before = noisy.before.view(20, -1, 10)
    assert not before[:, 0].any() and torch.equal(before[:, 1:], noisy.sequences.states.view(20, -1, 10)[:, :-1])
    dynamics = [Pairs(small.labelled, small.write, (0, 1, 3), 60, noise=noise).draw(np.random.default_rng(3))[0][1]
                for noise in (0.0, deviation)]  # fmt: skip
    assert torch.equal(dynamics[1].before, dynamics[1].sequences.states)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_share_of_states_is_read_as_the_model_predicts_them(share):
    """Of generations alone, where a next state is read; what a change is added to is what is read."""
    small = Small(rollouts=made_rollouts(40, longest=9))
    groups = Pairs(small.labelled, small.write, (0, 1, 3), 60).draw(np.random.default_rng(3))[0]
    plain = joined(groups)
    fed = with_own_predictions(small.model, plain, share, torch.Generator().manual_seed(0))
    assert torch.equal(fed.states.target, plain.states.target) and torch.equal(fed.states.at, plain.states.at)
    generation = groups[0]
    rows = generation.sequences.states.view(20, -1, 10)
    changed = (fed.sequences.states != plain.sequences.states).any(1)
    n = rows.shape[0] * rows.shape[1]
    assert not changed[n:].any()  # of dynamics and explanations
    own, mark = fed.sequences.states[:n].view(20, -1, 10), changed[:n].view(20, -1)
    assert not mark[:, 0].any() and mark[:, 1:].float().mean() == pytest.approx(share, abs=0.12)
    hidden = small.model(generation.sequences, generation.states.at)
    predicted = small.model.predicted_states(hidden, generation.before).detach().view(20, -1, 10)
    torch.testing.assert_close(own[mark], predicted[mark])
    before = fed.before[:n].view(20, -1, 10)
    assert not before[:, 0].any() and torch.equal(before[:, 1:], own[:, :-1])
    assert torch.equal(fed.before[n:], plain.before[n:])


def test_a_word_that_was_never_seen_is_unknown():
    tokenizer = word_level(["Push the red ball.", "push it"])
    assert tokenizer("The RED orb.")["input_ids"] == tokenizer("the red <unk> .")["input_ids"]
    assert tokenizer.decode(tokenizer("push it")["input_ids"]) == "push it"


def test_an_explanation_is_the_likeliest_word_after_word():
    small = Small()
    rollouts = small.rollouts.take(np.array([0, 3, 4]))
    found = explained(small.model, small.write, rollouts, UNSEEN, lambda ids: ids, 5)
    for i, ids in enumerate(found):
        prompt = small.write(UNSEEN, rollouts, np.array([i]), np.array([0]), until="answer").sequences
        rows, plain = small.model.embed(prompt), []
        while len(plain) < 5 and small.write.stop not in plain:
            hidden = small.model.lm(rows, [(1, len(rows))])[-1:]
            token = small.model.token_logits(hidden).argmax(1)
            plain.append(int(token))
            rows = torch.cat([rows, small.model.lm.get_input_embeddings()(token)])
        assert ids == [number for number in plain if number != small.write.stop]


# --- pretrained models, adapters, files -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory):
    """A pretrained model of somebody's, as transformers keeps them."""
    small, folder = Small(), tmp_path_factory.mktemp("pretrained")
    plain_llama(small).save_pretrained(folder)
    small.tokenizer.save_pretrained(folder)
    return str(folder)


def test_lora_trains_adapters_and_heads_alone(on_disk):
    small = Small(settings("qwen", pretrained=on_disk, precision="float32", lora_rank=2))
    learned = small.model.learned()
    assert all("lora_" in name or name.startswith("grounding.") for name in learned)
    assert sum("lora_B" in name for name in learned) == 2 * 7  # every linear layer of two blocks
    before = copy.deepcopy(small.model.state_dict())
    learner = small.learner(learning_rate=3e-3, updates=20)
    batch = Pairs(small.labelled, small.write, (0, 1, 3), 6).draw(np.random.default_rng(0))
    losses = [float(learner.update(batch)["loss"]) for _ in range(20)]
    assert losses[-1] < losses[0]
    moved = {name for name, value in small.model.state_dict().items() if (value != before[name]).any()}
    assert moved == set(learned)
    assert set(learner.state_dict()["model"]) == set(learned)


@pytest.mark.parametrize("kind", ["tiny", "lora"])
def test_a_model_comes_back_from_disk_as_it_was(kind, on_disk, tmp_path):
    config = settings() if kind == "tiny" else settings("qwen", pretrained=on_disk, lora_rank=2)
    small = Small(config)
    with torch.no_grad():
        for parameter in small.model.learned().values():
            parameter += 0.01
    kalm_model.save(tmp_path, small.model, small.config, small.words, small.width, {"updates": 3})
    loaded = kalm_model.load(tmp_path, torch.device("cpu"))
    group = small.write(GENERATION, small.rollouts, np.arange(3), np.arange(3)).sequences
    every = torch.arange(len(group.tokens))
    assert torch.equal(loaded.model(group, every), small.model.eval()(group, every))
    assert loaded.tokenizer("push it")["input_ids"] == small.tokenizer("push it")["input_ids"]
    weights = tmp_path / kalm_model.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-4] + b"bits")
    with pytest.raises(ConfigError, match="damaged"):
        kalm_model.load(tmp_path, torch.device("cpu"))


@pytest.mark.parametrize("key", ["method.model", "method.rollouts.model.model"])
def test_a_model_that_is_not_there_is_named_with_what_to_do(tmp_path, key):
    with pytest.raises(ConfigError) as caught:
        check(settings("llama2_7b", pretrained=str(tmp_path / "nowhere")), key)
    for part in (f"{key}.pretrained", "nowhere", "hf download", f"llm_model@{key}=tiny"):
        assert part in str(caught.value)
    with pytest.raises(ConfigError, match=rf"{key}.encoder=huggingface:.*no such model"):
        check(settings(encoder=f"huggingface:{tmp_path / 'nowhere'}"), key)


@pytest.mark.parametrize(("gone", "why"), [("*.safetensors", "no weights"), ("tokenizer*", "okenizer")])
def test_a_directory_that_holds_half_a_model_is_named_before_anything_is_collected(on_disk, tmp_path, gone, why):
    folder = shutil.copytree(on_disk, tmp_path / "half")
    for file in folder.glob(gone):
        file.unlink()
    with pytest.raises(ConfigError, match=rf"method.model.pretrained: .*half cannot be loaded.*{why}"):
        check(settings("qwen", pretrained=str(folder)), "method.model")


def test_the_first_blocks_of_a_model_are_what_it_computes_up_to_there(on_disk):
    whole, cut = (transformers.AutoModelForCausalLM.from_pretrained(on_disk) for _ in range(2))
    keep_first(cut, 1)
    ids = torch.arange(6)[None]
    expected = whole.model.norm(whole(ids, output_hidden_states=True).hidden_states[1])
    torch.testing.assert_close(cut.model(ids).last_hidden_state, expected)
    step = cut(ids[:, :5], use_cache=True)
    torch.testing.assert_close(cut(ids[:, 5:], past_key_values=step.past_key_values).logits, cut(ids).logits[:, 5:])
    with pytest.raises(ConfigError, match="method.model.keep_layers=3: .* has 2 blocks"):
        check(settings("qwen", pretrained=on_disk, keep_layers=3), "method.model")
    assert len(Small(settings("qwen", pretrained=on_disk, keep_layers=1)).model.lm.model.layers) == 1
    with pytest.raises(ValueError, match="keep_layers: of a pretrained model"):
        settings(keep_layers=1)


def test_a_gguf_file_is_a_pretrained_model(smollm2):
    """What it knows of language is there: it goes on with a sentence as who has read some would."""
    config = settings("qwen", pretrained=str(smollm2), goal="tokens", precision="float32")
    model, tokenizer = make(config, [], None, torch.Generator())
    lm = model.lm
    asked = torch.tensor([tokenizer("The capital of France is")["input_ids"]])
    assert tokenizer.decode(lm(asked).logits[0, -1].argmax()).strip() == "Paris"


def test_a_gguf_file_that_is_none_is_named(tmp_path):
    (tmp_path / "w.gguf").write_bytes(b"GGUF, but not really")
    for name, why in (("w.gguf", "cannot be loaded"), ("gone.gguf", "there is no file")):
        with pytest.raises(ConfigError, match=f"method.model.pretrained: .*{why}|{why}"):
            check(settings("qwen", pretrained=str(tmp_path / name)), "method.model")


def test_a_model_that_sees_what_comes_later_is_named(on_disk, tmp_path):
    folder = shutil.copytree(on_disk, tmp_path / "encoder")
    transformers.BertConfig().save_pretrained(folder)
    with pytest.raises(ConfigError, match="encoder is a model of the kind bert, which is not causal"):
        check(settings("qwen", pretrained=str(folder)), "method.model")


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    """One with dropout, and whose linear layers are transformers' own."""
    folder, tokenizer = tmp_path_factory.mktemp("gpt2"), Small().tokenizer
    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": len(tokenizer)}
    transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)).save_pretrained(
        folder
    )
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_a_model_with_dropout_learns_the_same_whatever_else_draws(gpt2):
    trained = []
    for seed in (0, 1):
        small = Small(settings("qwen", pretrained=gpt2, adapter="full", precision="float32"))
        batch = Pairs(small.labelled, small.write, (0, 1, 3), 6).draw(np.random.default_rng(0))
        torch.manual_seed(seed)
        learner = small.learner()
        trained.append([float(learner.update(batch)["loss"]) for _ in range(3)])
    assert trained[0] == trained[1]


def test_lora_finds_the_linear_layers_of_gpt2(gpt2):
    learned = Small(settings("qwen", pretrained=gpt2, precision="float32")).model.learned()
    assert sum("lora_B" in name for name in learned) == 2 * 4


def test_too_little_memory_names_the_settings(monkeypatch):
    small = Small()
    learner = small.learner()

    def full(*x):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(small.model, "forward", full)
    with pytest.raises(ConfigError, match=r"20.00 GiB.*batch_size.*accumulation.*precision.*adapter"):
        learner.update(Pairs(small.labelled, small.write, (0, 1, 3), 6).draw(np.random.default_rng(0)))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [({"pretrained": "some/model"}, "pretrained"), ({"epochs": 1}, "epochs"), ({"validation": 0}, "validation"),
     ({"adapter": "lora"}, "adapter"), ({"encoder": "minilmm"}, "encoder: words, minilm or"),
     ({"sizes": SIZES | {"hidden": 18}}, "sizes")],
)  # fmt: skip
def test_settings_that_do_not_fit_are_named(changes, complaint):
    with pytest.raises(ValueError, match=complaint):
        settings(**changes)


# --- a training that is stopped -------------------------------------------------------------------------------------


class StopAt(Stop):
    """Asks to stop at the top of pass `at`."""

    def __init__(self, at):
        super().__init__()
        self.passes, self.at = -1, at

    def poll(self):
        if not self._regions:
            self.passes += 1
            if self.passes == self.at:
                raise Stopped(signal.SIGTERM)


@pytest.mark.parametrize(("compile_", "stops"), [("false", (0, 3, 4, 7)), ("true", (3,))])
def test_a_stopped_training_ends_byte_for_byte_like_another(tmp_path, monkeypatch, compile_, stops):
    monkeypatch.setattr("os.fsync", lambda fd: None)
    data = tmp_path / "data"
    save_rollouts(data, made_rollouts(30), {})
    numbers = {"updates": 7, "batch_size": 6, "evaluations": 2, "validation_rollouts": 3}
    model = settings(epochs=None, compile=compile_, **numbers)
    method = kalm_model.Config(data=SimpleNamespace(import_from=None), model=model, tasks=(0, 1, 3), written=0, seed=0)
    monkeypatch.setattr(kalm_data, "run_of", lambda config, own: config)
    monkeypatch.setattr(kalm_data, "check", lambda run, config, key: None)
    compute = SimpleNamespace(device="cpu", checkpoint_every_s=1e9)

    def live(name, at=None):
        (folder := tmp_path / name).mkdir(exist_ok=True)
        ctx = SimpleNamespace(
            cfg=SimpleNamespace(method=method, env=SimpleNamespace(obs_velocity=False), compute=compute,
                                log=SimpleNamespace(every=2)), dir=folder,
            artifact=lambda run, product: data, log=RunLog(folder), checkpoints=Checkpoints(folder / "checkpoint"),
            stop=StopAt(at), report=lambda clock, facts: None,
        )  # fmt: skip
        try:
            return kalm_model.KALMModel().run(ctx)
        except Stopped:
            return None
        finally:
            ctx.log.close()

    whole = live("whole")
    rows = read_jsonl(tmp_path / "whole" / "metrics.jsonl")
    assert [row["updates"] for row in rows if row["kind"] == "validation"] == [0, 4, 7]
    assert {"generation_state_mse", "dynamics_state_mse", "action_accuracy", "token_ce", "explanation_accuracy",
            "explanation_accuracy_unseen_prompt"} <= set(whole["kalm_model"])  # fmt: skip
    for at in stops:
        assert live(f"stopped-{at}", at) is None
        assert live(f"stopped-{at}") == whole
        for file in (kalm_model.PRODUCT, kalm_model.WEIGHTS, "metrics.jsonl"):
            assert (tmp_path / f"stopped-{at}" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()

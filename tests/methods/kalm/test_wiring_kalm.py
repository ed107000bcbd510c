"""Every key of KALM's methods does what it says: another value, another object or another number."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import test_wiring_kalm_model  # noqa: F401 (the keys of the language model)
from replies import reply
from small_kalm import Small, changed, composed, made_rollouts, settings
from wiring import unwired, wires

from llmrl.checks import ConfigError
from llmrl.envs.clevr_robot import goals as g
from llmrl.envs.clevr_robot import language
from llmrl.envs.clevr_robot.collect import Script
from llmrl.methods.kalm import data as kalm_data
from llmrl.methods.kalm import method as kalm
from llmrl.methods.kalm import model as kalm_model
from llmrl.methods.kalm import policy as kalm_policy
from llmrl.methods.kalm import rollouts as kalm_rollouts
from llmrl.runs import seeding
from llmrl.runs.stop import Stop

METHODS = ("kalm", "kalm/data", "kalm/model", "kalm/rollouts", "kalm/policy")


def test_every_key_has_a_test():
    assert unwired(*METHODS) == set()


# --- the data -------------------------------------------------------------------------------------------------------


@wires("Script.random", "Script.dst")
def test_the_script():
    goals, xy = g.BASE[:40], np.random.default_rng(0).uniform(-0.4, 0.4, (40, 5, 2))
    src, dst = ((goals[:, :5] == which).argmax(1) for which in (1, 2))
    act = lambda **keys: Script(**{"random": 0.0, "dst": 0.0} | keys).act(goals, xy, np.random.default_rng(1))  # noqa: E731
    assert (act() // 8 == src).all() and (act(dst=1.0) // 8 == dst).all()
    assert len(set((act(random=1.0) // 8 == src).tolist())) == 2
    opposite = (act(dst=1.0) % 8, act() % 8)
    assert (opposite[0] != opposite[1]).all()


@wires("kalm/data.rollouts", "kalm/data.script", "kalm/data.seed", "kalm/data.with_states", "kalm/data.import_from")
def test_what_is_collected(tmp_path, monkeypatch):
    calls, saved = [], []
    monkeypatch.setattr(kalm_data, "collect", lambda *args, **kwargs: calls.append((args, kwargs)))
    monkeypatch.setattr(kalm_data, "imported", lambda path: calls.append(path))
    monkeypatch.setattr(kalm_data, "save", lambda directory, rollouts, about: saved.append(about))
    monkeypatch.setattr(kalm_data, "load", lambda directory: made_rollouts())
    script = Script(random=0.3, dst=0.2)
    keys = {"rollouts": 160, "script": script, "seed": 7, "with_states": True}
    for changes in (keys, {"import_from": str(tmp_path)}):
        context = SimpleNamespace(cfg=changed("kalm/data", **changes), dir=tmp_path, stop=Stop())
        kalm_data.KALMData().run(context)
    (args, kwargs), path = calls
    assert args[1:3] == (script, 160) and kwargs["with_states"] is True and path == tmp_path
    assert args[3].random() == seeding.generator(7, "kalm_data").random()
    assert saved[0]["seed"] == 7 and saved[1] == {"imported_from": str(tmp_path)}


@wires("kalm/model.data", "kalm/data.seed")
def test_what_each_stage_builds_on():
    data = dataclasses.replace(composed("kalm/data").method, rollouts=240, seed=9)
    model = dataclasses.replace(composed("kalm/model").method, data=data, seed=8)
    rollouts = dataclasses.replace(composed("kalm/rollouts").method, model=model, seed=7, tier="hard")
    config = dataclasses.replace(composed("kalm/rollouts"), method=rollouts)
    collected, trained = kalm_rollouts.KALMRollouts.stages(config)
    assert (collected.method, collected.seed, trained.method, trained.seed) == (data, 9, model, 8)
    assert kalm_rollouts.run_of(config, rollouts).seed == 7
    assert trained.budget.updates == kalm_model.updates_of(model, 216)  # a tenth is held back


@wires("kalm/model.written")
def test_further_sentences_are_trained_on(monkeypatch):
    """Two goals; of the first one an LLM writes three sentences, of the second none, which then repeats its own."""
    rollouts = made_rollouts(6)
    rollouts = dataclasses.replace(rollouts, goals=g.BASE[[3, 3, 0, 3, 0, 0]].astype(np.int32))
    texts, numbers = kalm_model.sentences_of(rollouts)
    asked = []

    def written(ctx, goals, styles, n):
        asked.append((np.stack(goals).tolist(), styles, n))
        return [["one", "two", "three"], []]

    monkeypatch.setattr(kalm_model, "written", written)
    config = changed("kalm/model", written=4)
    assert kalm_model.KALMModel.reads(config.method) == ("llm",)
    assert kalm_rollouts.KALMRollouts.reads(
        dataclasses.replace(composed("kalm/rollouts").method, model=config.method)
    ) == ("llm",)
    found, more = kalm_model.KALMModel()._with_written(
        SimpleNamespace(cfg=config, stop=Stop()), rollouts, texts, numbers
    )
    assert asked == [(g.BASE[[0, 3]].tolist(), ["rephrase", "complaint"], 4)]
    assert found == (*texts, "one", "two", "three") and more.shape == (6, 57)
    np.testing.assert_array_equal(more[:, :54], numbers)
    for row, own in enumerate([False, False, True, False, True, True]):
        assert more[row, 54:].tolist() == ([108, 109, 110] if own else numbers[row, :3].tolist())


# --- what is imagined -----------------------------------------------------------------------------------------------


class Imagined:
    """Takes what an imagination is made with, and imagines made rollouts."""

    def __init__(self, model, write, tier, **options):
        MADE.append({"model": model, "tier": tier, **options})

    def __call__(self, goals, text, start):
        MADE[-1].update(goals=goals, text=text, start=start)
        rollouts = made_rollouts(len(goals))
        rollouts.terminals[1::2] = False
        return dataclasses.replace(rollouts, goals=goals)


MADE: list[dict] = []


def imagined(directory, monkeypatch, **changes):
    """What KALMRollouts does with these keys: what it imagines with, what it draws, what it keeps, its facts."""
    from llmrl.methods.kalm.rollouts import figures, imagine, metrics

    small, seen = Small(settings(goal="tokens")), {"shown": [], "loaded": None}
    monkeypatch.setattr(imagine, "Imagination", Imagined)
    monkeypatch.setattr(metrics, "measured", lambda rollouts, tier, *, rng, threads: {"drawn": rng.random()})
    monkeypatch.setattr(figures, "draw", lambda rollouts, shown, reached, path: seen.update(shown=shown))
    monkeypatch.setattr(figures, "film", lambda rollouts, number, path: seen.update(film=number))
    monkeypatch.setattr(kalm_rollouts, "save", lambda path, rollouts, about: seen.update(kept=rollouts, about=about))
    monkeypatch.setattr(kalm_rollouts, "load", lambda path: seen["kept"])
    loaded = kalm_model.Loaded(small.model, small.tokenizer, small.config)
    monkeypatch.setattr(kalm_model, "load", lambda path, device: loaded)
    config = changed("kalm/rollouts", **{"rollouts": 12} | changes)
    asked = []
    context = SimpleNamespace(
        cfg=config, dir=directory, stop=Stop(), artifact=lambda run, product: asked.append(run) or directory,
        llm=SimpleNamespace(ask=lambda messages, purpose, index: reply("")),
    )  # fmt: skip
    facts = kalm_rollouts.KALMRollouts()._imagine(context)
    return SimpleNamespace(**MADE[-1], **seen, facts=facts, asked=asked, config=config)


@wires(*(f"kalm/rollouts.{key}" for key in (
    "tier", "rollouts", "max_steps", "lag", "ball_first", "walls", "drop_failed", "batch_size", "seed", "drawn",
    "model", "paper_share",
)))  # fmt: skip
def test_what_is_imagined(tmp_path, monkeypatch):
    plain = imagined(tmp_path, monkeypatch)
    assert (plain.tier, plain.steps, plain.lag, plain.batch) == ("base", 50, False, 512)
    assert len(plain.goals) == 12 and plain.shown == [0, 1, 2] and len(plain.kept) == 12
    assert plain.facts["kept"] == 12 and plain.facts["sentences"] == 800
    model = dataclasses.replace(composed("kalm/rollouts").method.model, seed=3)
    keys = {"tier": "hard", "rollouts": 10, "max_steps": 9, "lag": True, "batch_size": 5, "drawn": 1, "model": model}
    other = imagined(tmp_path, monkeypatch, **keys)
    assert imagined(tmp_path, monkeypatch, walls=True).walls and not plain.walls
    assert imagined(tmp_path, monkeypatch, ball_first=True).ball_first and not plain.ball_first
    assert (other.tier, other.steps, other.lag, other.batch) == ("hard", 9, True, 5)
    assert len(other.goals) == 10 and other.shown == [0] and other.about == {"tier": "hard", "seed": 0, "lag": True}
    assert other.asked[0].method == model and other.facts["sentences"] == 200
    assert imagined(tmp_path, monkeypatch, drawn=0).shown == []
    seeded = imagined(tmp_path, monkeypatch, seed=5)
    assert not np.array_equal(seeded.start, plain.start) and seeded.facts["drawn"] != plain.facts["drawn"]
    kept = imagined(tmp_path, monkeypatch, drop_failed=True).kept
    assert len(kept) == 6 and kept.terminals.any(1).all()
    default = imagined(tmp_path, monkeypatch, rollouts=None, tier="hard")
    assert len(default.goals) == 1680  # the paper's
    assert len(imagined(tmp_path, monkeypatch, rollouts=None, tier="hard", paper_share=0.01).goals) == 17


@wires("kalm/rollouts.written")
def test_further_sentences_are_asked_for(monkeypatch):
    assert kalm_rollouts.KALMRollouts.reads(changed("kalm/rollouts", written=0).method) == ()
    assert kalm_rollouts.KALMRollouts.reads(changed("kalm/rollouts", written=2).method) == ("llm",)
    answers = []
    monkeypatch.setattr(language, "read", lambda text, goal: answers.append(text) or ["one", "two", "three"])
    llm = SimpleNamespace(ask=lambda messages, purpose, index: reply(index))
    context = SimpleNamespace(llm=llm)
    base = language.worded("easy")
    for n, calls in ((0, 0), (2, 1), (4, 3)):
        answers.clear()
        worded = kalm_rollouts.more_words(context, "easy", n)
        assert len(answers) == 20 * calls and len(worded.texts) == len(worded.goals) == 400 + 20 * min(n, 3)
        assert worded.texts[:400] == base.texts
    goals = np.unique(base.goals, axis=0)
    np.testing.assert_array_equal(worded.goals[400:], np.repeat(goals, 3, axis=0))
    assert worded.texts[400:403] == ("one", "two", "three")


# --- policies -------------------------------------------------------------------------------------------------------


@wires("kalm.data", "kalm.real_rollouts", "kalm.imagined", "kalm.rollouts", "kalm.timeouts")
def test_what_a_policy_learns_from(tmp_path, monkeypatch):
    base = composed("kalm").method
    data = dataclasses.replace(base.data, rollouts=320, seed=2)
    rollouts = dataclasses.replace(base.rollouts, model=dataclasses.replace(base.rollouts.model, data=data), lag=True)
    real = made_rollouts(12)
    real = dataclasses.replace(real, goals=np.repeat(g.BASE[:4], 3, axis=0).astype(np.int32), terminals=real.terminals)
    real.terminals[:] = False
    sentences = tuple(language.worded("rephrase").texts[:5])
    dream = dataclasses.replace(real, texts=np.arange(12).astype(np.int32) % 5, sentences=sentences)
    monkeypatch.setattr(kalm, "check", lambda config: None)
    for tiers, timeouts in ((("rephrase",), "truncated"), (("hard", "easy"), "terminated"), ((), "truncated")):
        made, given = [], []
        own = {"data": data, "real_rollouts": 160, "imagined": tiers, "timeouts": timeouts}
        config = changed("kalm", **own, rollouts=rollouts)
        taken = []
        monkeypatch.setattr(type(real), "first_of_each_goal", lambda self, n: taken.append(n) or self)  # noqa: B023
        monkeypatch.setattr(kalm, "load", lambda name: real if "kalm_data" in name else dream)
        agent = SimpleNamespace(source=lambda *parts: given.extend(parts))  # noqa: B023
        context = SimpleNamespace(
            cfg=config, agent=lambda agent=agent: agent, train_offline=lambda agent, source: {},
            artifact=lambda run, *names: made.append(run) or run.choices["method"],  # noqa: B023
        )  # fmt: skip
        context.cfg = dataclasses.replace(config, compute=dataclasses.replace(config.compute, outputs=str(tmp_path)))
        facts = kalm.KALM().run(context)["kalm"]
        assert taken == [160] and facts["real_rollouts"] == 160
        assert made[0].method == data and made[0].seed == 2
        assert [(run.method.tier, run.method.lag) for run in made[1:]] == [(tier, True) for tier in tiers]
        assert [len(part) for part in given] == [30, *([30 * len(tiers)] if tiers else [])]
        ends = sum(int(part.terminated.sum()) for part in given)
        assert ends == (12 * (1 + len(tiers)) if timeouts == "terminated" else 0)
    assert config.method.rollouts is None


@wires("kalm/policy.policy", "kalm/policy.random", "kalm/policy.model", "kalm/policy.batch_size")
def test_a_policy_alone(tmp_path, monkeypatch):
    model = composed("kalm/policy").method.model
    calls, loaded = [], object()
    monkeypatch.setattr(kalm_model, "load", lambda path, device: loaded)
    row = SimpleNamespace(row=lambda: {"returns": [1.0]})
    monkeypatch.setattr(kalm_policy, "evaluate_together", lambda act, *rest: calls.append(act) or row)
    monkeypatch.setattr(kalm_policy, "by_language_model", lambda *args: calls.append(args) or row)
    for policy, share in (("noisy_greedy", 0.25), ("random", 1.0), ("language_model", None)):
        calls.clear()
        rows, asked = [], []
        model = dataclasses.replace(model, seed=6)
        config = changed("kalm/policy", policy=policy, random=0.25, batch_size=7, model=model)
        context = SimpleNamespace(
            cfg=config, stop=Stop(), evaluation_sets={"easy": ["a case"]}, log=SimpleNamespace(evaluation=rows.append),
            artifact=lambda run, product: asked.append(run) or tmp_path,  # noqa: B023
        )  # fmt: skip
        assert kalm_policy.KALMPolicy().run(context)["kalm_policy"] == {"policy": policy}
        assert [row["policy"] for row in rows] == ["greedy", "greedy on easy"] and len(calls) == 2
        if share is None:
            assert calls[1][0] is loaded and calls[1][2] == ["a case"] and calls[1][4] == 7
            assert asked[0].method == model
        else:
            assert asked == [] and config.method.model is None and {act._random for act in calls} == {share}
    with pytest.raises(ValueError, match="language_model needs one"):
        changed("kalm/policy", policy="language_model", model=None)
    with pytest.raises(ConfigError, match="goals are sentences"):
        env = dataclasses.replace(config.env, language=None)
        kalm_policy.KALMPolicy().run(SimpleNamespace(cfg=dataclasses.replace(config, env=env)))

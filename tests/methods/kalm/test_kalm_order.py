"""KALM: what belongs to which case, rollout or sentence, on things of which all is known."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small_kalm import made_rollouts, settings

from llmrl.envs.clevr_robot import goals as g
from llmrl.methods.kalm import method as kalm
from llmrl.methods.kalm import policy as kalm_policy
from llmrl.replay.dataset import Transitions
from llmrl.runs.evaluate import Case, Scores


class Player:
    """Knows the numbers of its cases' sentences."""

    def __init__(self, model, write, episodes, text):
        self.text = text


@pytest.mark.parametrize("goal, batch_size, groups", [
    ("tokens", 2, [[2, 5], [1, 4], [6], [0, 3]]),  # of one length together: 1, 2 and 3 words
    ("tokens", 100, [[2, 5], [1, 4, 6], [0, 3]]),
    ("encoder", 3, [[0, 1, 2], [3, 4, 5], [6]]),  # a vector is always as long
])  # fmt: skip
def test_a_language_models_scores_stand_in_the_order_of_the_cases(monkeypatch, goal, batch_size, groups):
    played = []

    def together(player, environment, suite, max_steps, stop):
        played.append(player.text.tolist())
        assert [case.seed for case in suite] == (100 + player.text).tolist() and max_steps == 9
        seeds = [case.seed for case in suite]
        return Scores([2.0 * s for s in seeds], [3 * s for s in seeds], 1, {"success": [s % 2 == 0 for s in seeds]})

    monkeypatch.setattr(kalm_policy, "evaluate_together", together)
    monkeypatch.setattr(kalm_policy, "LanguageModel", Player)
    sentences = ["a b c", "b a", "a", "c b a", "a a", "b", "c c"]
    length = np.array([len(text.split()) for text in sentences])
    vectors = np.zeros((7, 2)) if goal == "encoder" else None
    write = SimpleNamespace(sentences=SimpleNamespace(length=length, vectors=vectors))
    monkeypatch.setattr(kalm_policy.kalm_model, "writer", lambda config, texts, tokenizer: write)
    loaded = SimpleNamespace(config=settings(goal=goal), tokenizer=None, model=torch.nn.Linear(1, 1))
    suite = [Case(100 + i, {"sentence": text}) for i, text in enumerate(sentences)]
    scores = kalm_policy.by_language_model(loaded, None, suite, 9, batch_size, None)
    assert played == groups
    seeds = range(100, 107)
    assert scores.returns == [2.0 * s for s in seeds] and scores.lengths == [3 * s for s in seeds]
    assert scores.successes == {"success": [s % 2 == 0 for s in seeds]} and scores.capped == len(groups)


def some(n, first, table):
    state = np.arange(first, first + n, dtype=np.float32)[:, None]
    return Transitions(
        state, np.arange(n) % 4, state[:, 0] * 2, state + 1, np.zeros(n, bool), np.arange(n).astype(np.int32),
        text=(np.arange(n) % len(table)).astype(np.int32), table=np.float32(table), wordings=1,
    )  # fmt: skip


def test_joined_tiers_keep_each_transition_with_its_sentence():
    parts = [some(3, 0, [[1], [2]]), some(5, 10, [[3], [4], [5]]), some(2, 20, [[6]])]
    whole = kalm.joined(parts)
    assert len(whole) == 10 and whole.table[:, 0].tolist() == [1, 2, 3, 4, 5, 6]
    sentences = [part.table[part.text] for part in parts]
    np.testing.assert_array_equal(whole.table[whole.text], np.concatenate(sentences))
    np.testing.assert_array_equal(whole.reward, 2 * whole.state[:, 0])
    assert whole.state[:, 0].tolist() == [0, 1, 2, 10, 11, 12, 13, 14, 20, 21]
    assert kalm.joined(parts[:1]) is parts[0]


def test_a_rollouts_steps_have_the_sentences_of_its_goal(tmp_path, monkeypatch):
    real = made_rollouts(4)
    encoded = []
    monkeypatch.setattr(kalm.text, "encode", lambda name, texts, store: encoded.append((name, texts, store))
                        or np.arange(len(texts), dtype=np.float32)[:, None])  # fmt: skip
    found = kalm.transitions(real, "words", "truncated", tmp_path, "real ones")
    texts, numbers = kalm.sentences_of(real)
    assert encoded[0] == ("words", texts, tmp_path) and found.wordings == 54 and found.source == "real ones"
    row = np.repeat(np.arange(4), real.lengths)
    assert found.text.tolist() == numbers[row, 0].tolist() and len(found) == real.lengths.sum()
    dream = dataclasses.replace(real, texts=np.array([2, 0, 1, 1], np.int32), sentences=("x", "y", "z"))
    found = kalm.transitions(dream, "words", "terminated", tmp_path, "imagined ones")
    assert encoded[1][1] == ("x", "y", "z") and found.wordings == 1
    assert found.text.tolist() == np.array([2, 0, 1, 1])[row].tolist()


def test_the_script_pushes_what_an_easy_goal_says_where_it_says():
    n = len(g.EASY)
    episodes = SimpleNamespace(goals=g.EASY, states=np.zeros((n, 69)))
    actions = kalm_policy.Noisy(episodes, 0.0, np.random.default_rng(0))(None, None)
    assert g.easy_by_action(g.EASY, actions).all() and len(set(actions.tolist())) == n

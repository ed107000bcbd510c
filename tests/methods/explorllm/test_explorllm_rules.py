"""Which plans of ExploRLLM's planner count, which candidate is chosen, and what a decision is made of."""

import numpy as np
import pytest
from test_explorllm_programs import SHORT, policy_of

from llmrl.contracts.explorer import Clock
from llmrl.envs.pick_place.scene import FRAME, HOME_PIXEL
from llmrl.methods.explorllm.method import ProgramExplorer
from llmrl.methods.explorllm.program import Programs, Seen
from llmrl.methods.explorllm.program_policy import DRAWS, seen_in, spare_plans
from llmrl.methods.explorllm.programs import choose

PLANS = [  # what is held, (place, slot), whether it can be done
    (-1, (0, 0), True),
    (-1, (0, 2), True),
    (-1, (0, 3), False),  # a bowl cannot be picked
    (-1, (1, 4), False),  # nothing is there to be placed
    (0, (1, 0), False),  # on itself
    (2, (1, 2), False),
    (2, (1, 1), True),  # on another object
    (0, (1, 5), True),
    (0, (1, 6), False),
    (1, (1, -1), False),
    (1, (0, 1), True),
    (1, (2, 3), False),
    (1, (-1, 3), False),
]


def test_plans_that_cannot_be_done_are_replaced_by_the_spare_ones():
    n = len(PLANS)
    held = np.array([held for held, *_ in PLANS])
    wanted = np.array([[plan] for _, plan, _ in PLANS])
    seen = Seen(held, np.zeros((n, 6, 2)), wanted, np.zeros((n, 6, 28, 28, 3), np.uint8))
    spare = spare_plans(held, np.full((n, 2), 0.5))
    with Programs("def planner(held, positions, wanted):\n    return wanted[0]\n", None, None) as programs:
        done = programs.decide(seen, spare)
    expected = [plan if good else tuple(spare[i]) for i, (_, plan, good) in enumerate(PLANS)]
    assert list(zip(done.place.astype(int).tolist(), done.slot.tolist())) == expected
    assert done.failures.count("planner.wrong_choice") == sum(not good for *_, good in PLANS)


def test_spare_plans_are_possible_and_anything_that_is():
    draws = np.stack([np.linspace(0, 0.999, 30)] * 2, axis=1)
    assert spare_plans(np.full(30, -1), draws).tolist() == [[0, i // 10] for i in range(30)]
    assert spare_plans(np.full(30, 2), draws).tolist() == [[1, 3 + i // 10] for i in range(30)]


def test_what_is_seen_of_an_observation():
    """Object 2 is at the hand, which holds something in the first row alone; bowl 1 is wanted for object 0."""
    position = np.tile(np.array([[60, 50], [60, 110], [0, 110], [140, 50], [2, 112], [140, 170]], float), (2, 1, 1))
    assert np.abs(position[0, 2] - HOME_PIXEL).sum() == 2
    obs = {"position": position / FRAME, "in_hand": np.array([[1.0], [0.0]]), "goal": np.array([[0.0, 1.0]] * 2),
           "rgb": np.zeros((2, 6, 28, 28, 3), np.uint8)}  # fmt: skip
    seen = seen_in(obs, np.zeros((2, 3)))
    assert seen.held.tolist() == [2, -1] and seen.wanted.tolist() == [[[0, 4]]] * 2
    np.testing.assert_array_equal(seen.position, position)
    del obs["goal"]
    seen = seen_in(obs, np.array([[0.5, 0.1, 0.9], [0.3, 0.2, 0.1]]))
    assert seen.wanted.tolist() == [[[1, 4], [0, 3], [2, 5]], [[2, 5], [1, 4], [0, 3]]]


class OneMap:
    """Programs that place on slot 4 by this map."""

    def __init__(self, weights):
        self.weights = weights

    def decide(self, seen, spare):
        n = len(seen.held)
        maps = np.repeat(self.weights[None], n, axis=0)
        return type("Done", (), {"place": np.ones(n, bool), "slot": np.full(n, 4), "maps": maps, "failures": ["x.y"]})


@pytest.mark.parametrize("draw, offset", [(0.0, (0, -14)), (0.249, (0, -14)), (0.251, (13, 13)), (0.999, (13, 13))])
def test_a_pixel_is_drawn_by_the_cumulated_map(draw, offset):
    """Weights 1 and 3, at row 14, column 0 and at the last pixel."""
    weights = np.zeros((28, 28))
    weights[14, 0], weights[27, 27] = 1, 3
    obs = {"position": np.full((1, 6, 2), 100 / FRAME), "in_hand": np.ones((1, 1)), "goal": np.zeros((1, 2)),
           "rgb": np.zeros((1, 6, 28, 28, 3), np.uint8)}  # fmt: skip
    policy = policy_of(OneMap(weights), SHORT)
    draws = np.zeros((1, DRAWS))
    draws[0, 5] = draw
    action = policy.act(obs, draws)[0]
    assert action[0] == 1 and action[1:7].tolist() == [0, 0, 0, 0, 1, 0]
    np.testing.assert_allclose(action[7:], np.array(offset) / 14, rtol=1e-6)
    assert policy.failures == {"x.y": 1}


def test_a_candidate_is_chosen_by_its_score_for_the_sampling():
    scores = [{"stochastic": 0.2, "argmax": 0.9}, None, {"stochastic": 0.6, "argmax": 0.5}]
    found = {"scores": scores}
    assert [choose(found, best, sampling) for best in ("best", "worst") for sampling in ("stochastic", "argmax")] == [
        2, 0, 0, 2]  # fmt: skip
    assert choose(found, 1, "argmax") == 1 and choose({"scores": [None]}, "worst", "argmax") is None


class Tells:
    """In place of the programs: says of which environment and with which numbers it was asked."""

    failures: dict = {}

    def act(self, obs, draws):
        assert draws.shape == (len(obs["number"]), DRAWS)
        return np.column_stack([obs["number"], draws[:, 0], draws[:, -1]])


def test_programs_act_in_the_environments_that_they_guide():
    around = type("Around", (), {"propose": lambda self, obs, policy, *rest: policy()})()
    explorer = ProgramExplorer(around, Tells(), epsilon=lambda env_steps: 0.5, rng=np.random.default_rng(0))
    drawn = np.random.default_rng(0).random((8, 1 + DRAWS))
    actions = explorer.propose({"number": np.arange(8)}, lambda: np.full((8, 3), -1.0), Clock(), [{}] * 8, None)
    for i, row in enumerate(drawn):
        assert actions[i].tolist() == ([i, row[1], row[-1]] if row[0] < 0.5 else [-1, -1, -1])
    assert 0 < explorer.guided_env_steps == (drawn[:, 0] < 0.5).sum() < 8

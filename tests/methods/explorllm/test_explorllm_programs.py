"""ExploRLLM's programs: what is asked, how a bad one is named and replaced, what a score says, what the policy does."""

import base64
import dataclasses

import cv2
import numpy as np
import pytest
import yaml
from llm_server import Server
from test_llm_client import client, config, hosted

from llmrl.checks import ConfigError
from llmrl.conf_files import conf_root
from llmrl.config import checked
from llmrl.envs.pick_place.scene import FRAME, HOME_PIXEL
from llmrl.gymnasium_ids import pick_place
from llmrl.llm.client import Reply
from llmrl.llm.sandbox import Limits, SandboxFailure
from llmrl.llm.transcript import Transcript
from llmrl.methods.explorllm import program, scripted
from llmrl.methods.explorllm import programs as explorllm_programs
from llmrl.methods.explorllm.examples import png_url, seen_tables
from llmrl.methods.explorllm.program import Programs, Rejected, extract
from llmrl.methods.explorllm.program_policy import DRAWS, ProgramPolicy, check_task, seen_in
from llmrl.methods.explorllm.programs import Search, choose

SHORT, LONG = pick_place(horizon="short").config, pick_place(horizon="long").config
VALUES = yaml.safe_load((conf_root() / "method" / "explorllm/programs.yaml").read_text())
PLANNER = "def planner(held, positions, wanted):\n    return 0, wanted[0][0]\n"
UNIFORM = "import numpy as np\ndef affordance(crop):\n    return np.ones((28, 28))\n"
BAD = {  # program: its name
    "def affordance(crop):\n    return 1 / 0\n": "raised",
    "import numpy as np\ndef affordance(crop):\n    return np.full((28, 28), np.nan)\n": "not_finite",
    "import numpy as np\ndef affordance(crop):\n    return np.full((28, 28), 1e308)\n": "not_finite",  # their sum
    "import numpy as np\ndef affordance(crop):\n    return np.ones((14, 14))\n": "wrong_shape",
    "import numpy as np\ndef affordance(crop):\n    return np.zeros((28, 28))\n": "all_zero",
    "import numpy as np\ndef affordance(crop):\n    return crop[..., 0] - 100.0\n": "negative",
    "def affordance(crop):\n    for i in range(10**12):\n        pass\n": "timeout",
    "import os\ndef affordance(crop):\n    return os.listdir()\n": "forbidden_import",
    "def affordance(crop)\n    return crop\n": "syntax",
    "def attention(crop):\n    return crop\n": "missing_function",
    "def planner(held, positions, wanted):\n    return 'pick'\n": "wrong_shape",
    "def planner(held, positions, wanted):\n    return 0, wanted[3][0]\n": "raised",
    "def planner(held, positions, wanted):\n    return 0, 1, 2\n": "wrong_shape",
    "def planner(held, positions, wanted):\n    return 0, float('inf')\n": "not_finite",
    "def planner(held, positions, wanted):\n    return 0, 4\n": "wrong_choice",
    "def planner(held, positions, wanted):\n    return 1, 4\n": "wrong_choice",
    "import numpy as np\ndef place_map(picked, bowl):\n    return -np.ones((28, 28))\n": "negative",
}


class Answers:
    """A language model that gives these replies, by purpose; the same one again and again where it has one."""

    def __init__(self, folder, **replies):
        self.transcript = Transcript(folder / "llm.jsonl")
        self.replies = {
            "explorllm.planner": PLANNER,
            "explorllm.affordance": UNIFORM,
            "explorllm.place": UNIFORM.replace("affordance(crop)", "place_map(picked, bowl)"),
        }
        self.replies |= {f"explorllm.{name}": reply for name, reply in replies.items()}

    def ask(self, messages, *, purpose, index):
        reply = self.replies[purpose]
        text = reply if isinstance(reply, str) else reply[int(index) % len(reply)]
        self.transcript.call({"purpose": purpose, "index": index, "messages": messages, "answer": text})
        return Reply(text, "a model", 1, 1, 0.0)

    def event(self, purpose, index, event, **facts):
        self.transcript.event(purpose, index, event, **facts)


def settings(**changes):
    return checked(explorllm_programs.Config, VALUES | {"n": 2, "tables": 4, "crops": 3} | changes)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What the scripted answers come to for the short horizon."""
    llm = client(tmp_path_factory.mktemp("found"), config())
    return Search(settings(n=6, crops=30), SHORT, llm).find()


@pytest.fixture
def quick(monkeypatch):
    """Programs that take long are stopped soon."""
    monkeypatch.setattr(program, "LIMITS", Limits(seconds_per_call=0.5))


def some_obs(env_config, n=1, **changes):
    env = pick_place(horizon=env_config.horizon, **changes)
    observations = [env.reset(seed=i)[0] for i in range(n)]
    return {key: np.stack([obs[key] for obs in observations]) for key in observations[0]}


def policy_of(programs, env_config=SHORT, **changes):
    return ProgramPolicy(programs, env_config, **({"offset_scale": 1.0, "sampling": "stochastic"} | changes))


# --- bad programs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "name"), BAD.items(), ids=[f"{i}-{name}" for i, name in enumerate(BAD.values())])
def test_a_bad_program_is_named(code, name, quick):
    function = next((f for f in program.FUNCTIONS if f"def {f}" in code), "affordance")
    seen = seen_tables(SHORT, 4, 0)
    with pytest.raises(Rejected) as caught:
        source = extract(f"Here it is:\n```python\n{code}```\n", function)
        with Programs(**{f: source if f == function else None for f in program.FUNCTIONS}) as programs:
            programs.check(seen)
    assert caught.value.name == name and caught.value.detail


def test_a_bad_program_costs_its_try_is_recorded_and_another_is_asked_for(tmp_path):
    broken = "def planner(held, positions, wanted):\n    return 7, 7\n"
    llm = Answers(tmp_path, planner=[broken, PLANNER], affordance=[UNIFORM, "no code"])
    result = Search(settings(), SHORT, llm).find()
    assert result["planner"] == PLANNER and result["affordance"] == [UNIFORM, None]
    assert result["rejected"] == {"explorllm.planner 0": "wrong_choice", "explorllm.affordance 1": "no_code"}
    assert result["scores"][1] is None and 0 < result["scores"][0]["stochastic"] < 1
    again = Transcript(tmp_path / "llm.jsonl", read_only=True).events
    assert again["explorllm.planner", "0", "rejected"]["reason"] == "wrong_choice"
    assert ("explorllm.affordance", "0", "scored") in again


def test_where_every_program_is_bad_the_fallback_acts_and_is_counted(tmp_path):
    llm = Answers(tmp_path, planner="none", affordance="none", place="none")
    result = Search(settings(max_tries=2), SHORT, llm).find()
    assert (result["planner"], result["affordance"], result["place_map"]) == (None, [None, None], None)
    assert choose(result, "best", "stochastic") is None
    env, n = pick_place(horizon="short"), 200
    obs = {key: value[None].repeat(n, axis=0) for key, value in env.reset(seed=0)[0].items()}
    with explorllm_programs.chosen(result, None) as programs:
        policy = policy_of(programs)
        actions = policy.act(obs, np.random.default_rng(0).random((n, DRAWS)))
    assert policy.failures == {"planner.no_program": n, "affordance.no_program": n}
    assert (actions[:, 0] == 0).all() and env.action_space.contains(actions[0])
    assert set(actions[:, 1:7].argmax(axis=1)) == {0, 1, 2}  # a random object
    assert abs(actions[:, 7:]).max() == 1 and abs(actions[:, 7:].mean()) < 0.1  # anywhere on it


def test_a_program_that_fails_now_and_then_is_replaced_then_alone(quick):
    code = "def affordance(crop):\n    return crop[:, :, 0] * (1.0 if crop[14, 14, 0] != 45 else float('nan'))\n"
    obs = some_obs(SHORT, 20)
    obs["rgb"][:10, :, 14, 14, 0], obs["rgb"][10:, :, 14, 14, 0] = 45, 46
    with Programs(PLANNER, code, None) as programs:
        policy = policy_of(programs)
        policy.act(obs, np.random.default_rng(0).random((20, DRAWS)))
        policy.act(obs, np.random.default_rng(0).random((20, DRAWS)))  # counted at every use, also from the cache
    assert policy.failures == {"affordance.not_finite": 20}


def test_a_program_that_takes_for_ever_is_replaced_and_at_last_not_started_again(quick):
    code = "def affordance(crop):\n    for i in range(10**12):\n        pass\n"
    obs, draws = some_obs(SHORT), np.full((1, DRAWS), 0.5)
    with Programs(PLANNER, code, None) as programs:
        policy = policy_of(programs)
        for _ in range(program.RESTARTS + 3):
            policy.act(obs, draws)
    assert policy.failures == {"programs.timeout": program.RESTARTS + 1, "programs.dead": 2}


LIES = {  # what our part of the child may come to return, once a program has got at it
    "a slot that there is not": lambda plans, maps, faults: (plans + 9, maps, faults),
    "a bowl to pick": lambda plans, maps, faults: (plans + (0, 4), maps, faults),
    "a place of nothing": lambda plans, maps, faults: (plans + (1, 4), maps, faults),
    "half a plan": lambda plans, maps, faults: (plans[:, :1], maps, faults),
    "plans of fractions": lambda plans, maps, faults: (plans / 2, maps, faults),
    "a plan too few": lambda plans, maps, faults: (plans[1:], maps, faults),
    "a fault without a name": lambda plans, maps, faults: (plans, maps, faults + 99),
    "a fault below zero": lambda plans, maps, faults: (plans, maps, faults - 1),
    "faults of another shape": lambda plans, maps, faults: (plans, maps, faults[:, 0]),
    "a map of another size": lambda plans, maps, faults: (plans, maps[:, 1:], faults),
    "a negative map": lambda plans, maps, faults: (plans, -maps, faults),
    "a map of nothing": lambda plans, maps, faults: (plans, 0 * maps, faults),
    "a map of nan": lambda plans, maps, faults: (plans, np.nan * maps, faults),
    "a map that adds up to infinity": lambda plans, maps, faults: (plans, 1e308 * maps, faults),
    "whole numbers for a map": lambda plans, maps, faults: (plans, maps.astype(np.int64), faults),
    "too little": lambda plans, maps, faults: (plans, maps),
    "too much": lambda plans, maps, faults: (plans, maps, faults, faults),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_the_child_returns_is_not_trusted(lie, monkeypatch):
    """As after the death of a child: the fallback acts, counted by a name of its own, and at last no child is begun."""

    class Child:
        def __init__(self, *program, **limits):
            pass

        def call(self, function, held, *rest):
            n = len(held)
            return LIES[lie](np.zeros((n, 2), np.int64), np.ones((n, 28, 28)), np.zeros((n, 2), np.int64))

        def close(self):
            pass

    monkeypatch.setattr(program, "Sandbox", Child)
    env, obs, policy = pick_place(horizon="short"), some_obs(SHORT, 3), policy_of(Programs(PLANNER, UNIFORM, None))
    for _ in range(program.RESTARTS + 2):
        actions = policy.act(obs, np.random.default_rng(0).random((3, DRAWS)))
        assert all(env.action_space.contains(action) for action in actions)
    assert policy.failures == {"programs.bad_output": 3 * (program.RESTARTS + 1), "programs.dead": 3}


def test_a_child_that_lies_scores_nothing_and_passes_no_check(monkeypatch):
    changed = "\ndef maps_of(*crops):\n    return _np.full((len(crops[0]), 28, 28), 1e308), _np.zeros(1, 'int64')\n"
    monkeypatch.setattr(program, "ENTRY", program.ENTRY + changed)
    with Programs(None, UNIFORM, None) as programs:
        with pytest.raises(Rejected, match="bad_output"):
            programs.check(seen_tables(SHORT, 2, 0))
        with pytest.raises(SandboxFailure, match="bad_output"):
            programs.maps_of(np.zeros((1, 28, 28, 3), np.uint8))


def test_programs_need_crops():
    with pytest.raises(ConfigError, match="env.observation=crops"):
        check_task(dataclasses.replace(SHORT, observation="image"))


# --- what is asked ----------------------------------------------------------------------------------------------------


def test_scores_tell_candidates_apart(found):
    scores = [facts and facts["stochastic"] for facts in found["scores"]]
    by_kind = dict(zip(scripted.ORDER, scores))
    assert by_kind["broken"] is None and found["rejected"] == {"explorllm.affordance 2": "raised"}
    assert by_kind["clipped"] > by_kind["box"] + 0.2 > by_kind["edge"] + 0.3
    assert choose(found, "best", "stochastic") == scripted.ORDER.index("clipped")
    assert choose(found, "worst", "stochastic") == scripted.ORDER.index("edge")
    assert choose(found, 4, "argmax") == 4


def test_pictures_go_to_the_model_and_into_the_transcript(tmp_path):
    code = "```python\n" + PLANNER + UNIFORM + "def place_map(picked, bowl):\n    return affordance(bowl)\n```"
    with Server(code) as server:
        llm = client(tmp_path, hosted(server))
        own = settings(n=1, images=True, tables=1, crops=1)
        Search(own, SHORT, llm).find()
        again = client(tmp_path, hosted(server))
        Search(own, SHORT, again).find()
        planner, affordance, place = [body["messages"][0]["content"] for body in server.requests]  # none asked twice
    assert isinstance(planner, str)
    assert [part["type"] for part in affordance] == ["text", *["image_url"] * 3]
    assert [part["type"] for part in place] == ["text", *["image_url"] * 2]
    assert "letter O" in affordance[0]["text"] and "bowl" in place[0]["text"]
    recorded = again.transcript.calls["explorllm.affordance", "0"]["messages"][0]["content"]
    assert recorded == affordance
    png = base64.b64decode(recorded[1]["image_url"]["url"].partition("base64,")[2])
    assert cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR).shape == (112, 112, 3)


def test_a_picture_is_its_crop():
    crop = some_obs(SHORT)["rgb"][0, 3]
    png = base64.b64decode(png_url(crop, 2).partition("base64,")[2])
    read = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)[::2, ::2, ::-1]
    np.testing.assert_array_equal(read, crop)


# --- our own programs, against OpenCV ---------------------------------------------------------------------------------


def run(kind, *crops):
    space: dict = {}
    exec(f"{scripted.MASK}\n\n{scripted.PICKS[kind][1] if kind in scripted.PICKS else scripted.PLACE}", space)
    return space["affordance" if kind in scripted.PICKS else "place_map"](*crops)


def test_peaked_is_the_distance_inside_the_largest_outer_contour():
    for crop in some_obs(SHORT, 10)["rgb"].reshape(-1, 28, 28, 3):
        gray = (crop @ np.array([0.299, 0.587, 0.114]) > 100).astype(np.uint8)
        contours, _ = cv2.findContours(gray, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        shape = np.zeros((30, 30), np.uint8)
        cv2.drawContours(shape, [max(contours, key=cv2.contourArea) + 1], -1, 1, cv2.FILLED)
        depth = np.maximum(cv2.distanceTransform(shape, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1] - 1, 0)
        np.testing.assert_allclose(run("peaked", crop), depth / depth.sum(), atol=1e-6)
        np.testing.assert_allclose(run("flat", crop), shape[1:-1, 1:-1] / shape.sum(), atol=1e-12)


def test_a_place_counts_the_pixels_of_the_object_that_lie_on_the_bowl():
    rgb = some_obs(SHORT)["rgb"][0]
    item, bowl = ((c @ np.array([0.299, 0.587, 0.114]) > 100).astype(np.float32) for c in (rgb[1], rgb[4]))
    framed = cv2.copyMakeBorder(bowl, 14, 13, 14, 13, cv2.BORDER_CONSTANT, value=0)
    counts = cv2.matchTemplate(framed, item, cv2.TM_CCORR)
    np.testing.assert_allclose(run("place", rgb[1], rgb[4]), counts / counts.sum(), atol=1e-6)


def test_planners(found, tmp_path):
    far = np.array([[60, 60], [60, 150], [150, 60], [100, 100], [20, 20], [200, 200]], np.float64)
    short, long = {}, {}
    exec(found["planner"], short)
    exec(Search(settings(n=1), LONG, client(tmp_path, config())).find()["planner"], long)
    goal, every = np.array([[1, 5]]), np.array([[2, 5], [0, 3], [1, 4]])
    assert [tuple(map(int, short["planner"](held, far, goal))) for held in (-1, 1, 0)] == [(0, 1), (1, 5), (0, 1)]
    assert [tuple(map(int, long["planner"](held, far, every))) for held in (-1, 1, 0)] == [(0, 2), (1, 4), (1, 3)]
    near = far.copy()
    near[2] = near[5] + (10, 10)  # 14 pixels: done
    assert tuple(map(int, long["planner"](-1, near, every))) == (0, 0)


# --- the policy -------------------------------------------------------------------------------------------------------


def test_what_is_held_is_seen_by_where_it_is():
    env = pick_place(horizon="short", position_noise_px=0.0)
    for seed in range(20):
        obs, info = env.reset(seed=seed)
        slot = seed % 3
        target = np.eye(6, dtype=np.float32)[slot]
        for du, dv in np.random.default_rng(seed).uniform(-1, 1, (40, 2)):
            obs, _, _, over, info = env.step(np.array([0, *target, du, dv], np.float32))
            if info["picked"]:
                break
            if info["truth"]["position"] is None or over:
                break
        seen = seen_in({key: value[None] for key, value in obs.items()}, np.zeros((1, 3)))
        assert seen.held[0] == info["truth"]["held"]
        assert seen.wanted.tolist() == [[[info["truth"]["goal"][0], 3 + info["truth"]["goal"][1]]]]


def test_pairs_of_the_long_horizon_come_in_random_order():
    obs = {key: value.repeat(300, axis=0) for key, value in some_obs(LONG).items()}
    wanted = seen_in(obs, np.random.default_rng(0).random((300, 3))).wanted
    assert (wanted[:, :, 1] == wanted[:, :, 0] + 3).all()
    assert len({tuple(row) for row in wanted[:, :, 0].tolist()}) == 6


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_the_offset_is_the_authors_half_or_the_whole(scale):
    """Row 20, column 10 of a crop: 6 crop pixels down and 4 to the left, which are 12 and 8 of the picture."""
    code = "import numpy as np\ndef affordance(crop):\n    m = np.zeros((28, 28))\n    m[20, 10] = 1\n    return m\n"
    obs = some_obs(SHORT)
    with Programs(PLANNER, code, None) as programs:
        action = policy_of(programs, offset_scale=scale).act(obs, np.full((1, DRAWS), 0.3))[0]
        pixel = policy_of(programs, dataclasses.replace(SHORT, actions="pixel"), offset_scale=scale)
        place = pixel.act(obs, np.full((1, DRAWS), 0.3))[0]
    slot = int(obs["goal"][0, 0])
    np.testing.assert_allclose(action[7:], np.array([6, -4]) * scale / 14, rtol=1e-6)
    np.testing.assert_allclose(
        place[1:] * FRAME, obs["position"][0, slot] * FRAME + np.array([6, -4]) * scale, atol=1e-3
    )


def test_pixels_are_drawn_as_the_map_says():
    code = (
        "import numpy as np\ndef affordance(crop):\n    m = np.zeros((28, 28))\n    m[14, 14:16] = 1, 3\n    return m"
    )
    obs = {key: value.repeat(400, axis=0) for key, value in some_obs(SHORT).items()}
    draws = np.random.default_rng(0).random((400, DRAWS))
    with Programs(PLANNER, code, None) as programs:
        drawn = policy_of(programs).act(obs, draws)[:, 8]
        highest = policy_of(programs, sampling="argmax").act(obs, draws)[:, 8]
        centre = policy_of(programs, sampling="centre").act(obs, draws)[:, 7:]
    assert set(drawn.round(4)) == {0.0, np.float32(1 / 14).round(4)}
    assert abs((drawn > 0).mean() - 0.75) < 3 * np.sqrt(0.75 * 0.25 / 400)
    assert (highest > 0).all() and not centre.any()


def test_a_place_is_asked_for_with_the_held_crop_first():
    """The held object's crop is the one around the cup; the place map gets it first."""
    code = (
        "import numpy as np\ndef place_map(picked, bowl):\n    m = np.zeros((28, 28))\n"
        "    m[int(picked[0, 0, 0]), int(bowl[0, 0, 0])] = 1\n    return m\n"
    )
    planner = "def planner(held, positions, wanted):\n    return 1, wanted[0][1]\n"
    obs = some_obs(SHORT)
    obs["goal"][:] = 2, 1
    obs["in_hand"][:], obs["position"][:, 2] = 1, np.array(HOME_PIXEL) / FRAME
    obs["rgb"][0, 2, 0, 0, 0], obs["rgb"][0, 4, 0, 0, 0] = 17, 9
    with Programs(planner, None, code) as programs:
        action = policy_of(programs).act(obs, np.full((1, DRAWS), 0.3))[0]
    assert action[0] == 1 and action[1:7].argmax() == 4
    np.testing.assert_allclose(action[7:] * 14, [3, -5], atol=1e-5)

"""Which program a LESR search chooses, and by what score: on results that are made by hand."""

import numpy as np
import pytest
from made_search import Search, evaluations

from llmrl.runs.files import read_json


@pytest.fixture
def search(tmp_path, monkeypatch):
    def searched(trained, **options):
        directory = tmp_path / str(len(list(tmp_path.iterdir())))
        directory.mkdir()
        return Search(directory, monkeypatch, trained, **options)

    return searched


def flat(scores):
    """Every evaluation of a candidate returned its score; None: it failed."""
    return lambda name: "diverged" if scores[name] is None else (evaluations(*[scores[name]] * 5), [1.0] * 5)


@pytest.mark.parametrize(
    "scores, best",
    [
        ({"0-0": 1, "0-1": 9, "1-0": 3, "1-1": 5}, "0-1"),  # of the first round
        ({"0-0": 1, "0-1": 2, "1-0": 7, "1-1": 5}, "1-0"),
        ({"0-0": -40, "0-1": -20, "1-0": -30, "1-1": -21}, "0-1"),
        ({"0-0": None, "0-1": -5, "1-0": None, "1-1": -8}, "0-1"),
        ({"0-0": None, "0-1": None, "1-0": None, "1-1": -8}, "1-1"),
        ({"0-0": 4, "0-1": float("nan"), "1-0": 3, "1-1": float("inf")}, "0-0"),  # no numbers: failed
    ],
)
def test_the_best_of_all_rounds_is_chosen(search, scores, best):
    done = search(flat(scores))
    assert done.found["chosen"].startswith(best.replace("-", "/") + "/")
    assert (done.directory / "transform.py").read_text() == (done.directory / "programs" / f"{best}.py").read_text()
    assert done.found["features"] == 2
    told = {c["index"][:3].replace("/", "-"): c for c in done.found["candidates"]}
    for name, value in scores.items():
        if value is None or not np.isfinite(value):
            assert told[name]["score"] is None and told[name]["failed"]
        else:
            assert told[name]["score"] == value and not told[name]["failed"]


def test_where_all_have_failed_there_is_nothing_to_choose(search):
    with pytest.raises(RuntimeError, match="None of the 4 programs was trained to its end"):
        search(flat(dict.fromkeys(["0-0", "0-1", "1-0", "1-1"])))


RETURNS = (1, 2, 4, 8, 16)  # at 20, 40, 60, 80, 100 env_steps


@pytest.mark.parametrize(
    "window, evaluations_, expected",
    [
        (40, 1, 12),  # at 80 and 100: what is at its beginning, 60, is not in it
        (41, 1, 28 / 3),
        (1, 1, 16),
        (1, 3, 28 / 3),  # so many at least
        (60, 2, 28 / 3),  # or as many as the window holds, if these are more
        (100, 1, 31 / 5),
        (1, 5, 31 / 5),
    ],
)
def test_the_score_is_the_mean_of_the_last_evaluations(search, window, evaluations_, expected):
    done = search(
        lambda name: (evaluations(*RETURNS), [1.0] * 5),
        score_window=window, score_evaluations=evaluations_,
        k=1, iterations=1,
    )  # fmt: skip
    assert done.found["candidates"][0]["score"] == pytest.approx(expected)


def test_evaluations_of_the_random_policy_do_not_count_and_episodes_count_alike(search):
    rows = evaluations(1, 2, 4, 8, 16)
    rows[-1]["returns"] = [10, 20, 60]
    rows.insert(0, {"policy": "random", "env_steps": 0, "returns": [500], "lengths": [10]})
    rows.append({"policy": "greedy on hard", "env_steps": 100, "returns": [900], "lengths": [10]})
    done = search(lambda name: (rows, [1.0] * 5), k=1, iterations=1)
    assert done.found["candidates"][0]["score"] == pytest.approx((8 + 30) / 2)


@pytest.mark.parametrize("score, expected", [("return", 12), ("success_authors", 0.75), ("success_official", 0.25)])
def test_candidates_are_judged_by_what_was_asked_for(search, score, expected):
    rows = evaluations(*RETURNS, success_authors=[0, 0, 0, 0.5, 1], success_official=[1, 1, 1, 0.5, 0])
    done = search(lambda name: (rows, [1.0] * 5), score=score, k=1,
                  iterations=1)  # fmt: skip
    assert done.found["candidates"][0]["score"] == pytest.approx(expected)


def test_of_several_trainings_the_mean_counts(search):
    """The best single training is one of 0-0, the best program 0-1."""
    scores = {"0-0": 20, "0-0-seed1": 0, "0-1": 11, "0-1-seed1": 13}
    constants = {"0-0": 1.0, "0-0-seed1": 3.0, "0-1": 0.5, "0-1-seed1": 0.25}
    done = search(
        lambda name: (evaluations(*[scores[name]] * 5), [constants[name], 2.0, 4.0]), seeds=2,
        iterations=1,
    )  # fmt: skip
    assert [c["score"] for c in done.found["candidates"]] == [10, 12] and done.found["chosen"].startswith("0/1/")
    found = {index[:3]: facts["lipschitz"] for index, facts in done.events.items()}
    assert found == {"0/0": [2.0, 2.0, 4.0], "0/1": [0.375, 2.0, 4.0]}
    assert len({child["seed"] for child in done.children()}) == 4


def test_one_failed_training_of_several_fails_its_program(search):
    scores = {"0-0": 20, "0-0-seed1": None, "0-1": 1, "0-1-seed1": 2}
    done = search(flat(scores), seeds=2, iterations=1)
    first, second = done.found["candidates"]
    assert (first["score"], second["score"]) == (None, 1.5) and "diverged" in first["failed"]
    assert done.found["chosen"].startswith("0/1/")
    assert done.result["env_steps_total"] == 300  # what the failed program's other training took is counted


def test_the_cost_is_that_of_all_trainings_and_evaluations(search):
    done = search(flat({"0-0": 1, "0-1": 2, "1-0": None, "1-1": 4}))
    counts = {key: done.result[key] for key in ("env_steps", "updates", "episodes", "env_steps_total")}
    assert counts == {"env_steps": 300, "updates": 270, "episodes": 21, "env_steps_total": 300}
    assert done.result["eval_env_steps"] == 3 * 5 * 10


def test_rejected_programs_cost_their_try_and_are_counted(search):
    rejected = {"0/0/0": ("not_finite", "nan"), "0/1/2": ("syntax", "?"), "1/0/0": ("syntax", "?")}
    done = search(flat({"0-0": 1, "0-1": 2, "1-0": 3, "1-1": 4}), rejected=rejected)
    samples = [index for purpose, index, _ in done.llm.asked if purpose == "lesr.sample"]
    assert samples == ["0/0/0", "0/0/1", "0/1/2", "0/1/3", "1/0/0", "1/0/1", "1/1/2"]
    assert done.found["rejected"] == {"not_finite": 1, "syntax": 2}
    assert [c["index"] for c in done.found["candidates"]] == ["0/0/1", "0/1/3", "1/0/1", "1/1/2"]


def test_the_next_round_is_told_of_every_round_before_it_and_the_last_ones_analysis_nobody_asks_for(search):
    scores = {f"{i}-{k}": 1000 * (i + 1) + 111 * (k + 1) for i in range(3) for k in range(2)}
    done = search(flat(scores), iterations=3)
    purposes = [purpose.removeprefix("lesr.") for purpose, _, _ in done.llm.asked]
    assert purposes == ["sample", "sample", "feedback", "sample", "sample", "feedback", "sample", "sample"]
    last = done.llm.prompts("lesr.sample")[-1].replace(",", "")
    assert all(str(scores[name]) in last for name in ("0-0", "0-1", "1-0", "1-1"))
    assert last.count("analysed") == 2


def test_the_feedback_goes_on_from_the_best_program_that_did_not_fail(search):
    for scores, best in (((None, 5), "s[0] + 2.0"), ((7, 5), "s[0] + 1.0"), ((-7, -5), "s[0] + 2.0")):
        done = search(flat(dict(zip(["0-0", "0-1", "1-0", "1-1"], [*scores, 1, 1]))))
        (messages,) = [messages for purpose, _, messages in done.llm.asked if purpose == "lesr.feedback"]
        (reply,) = [m["content"] for m in messages if m["role"] == "assistant"]
        assert best in reply


def test_spectral_constants_are_of_the_first_critic(search):
    """First layer (3, 5 state dimensions + 1 action), second (1, 3): |column| times the other's norm."""
    first = np.zeros((3, 6), np.float32)
    first[:, :5] = [[3, 0, 0, 1, 2], [4, 0, 1, 0, 0], [0, 2, 0, 0, 0]]
    first[:, 5] = 50  # the action, of which no constant is told
    done = search(
        flat({"0-0": 1}), lipschitz="spectral_norm", k=1, iterations=1,
        critic=[first, np.array([[0, 0, 10]], np.float32)],
    )  # fmt: skip
    assert done.events["0/0/0"]["lipschitz"] == pytest.approx([50, 20, 10, 10, 20])
    assert done.children()[0]["wrapper"]["record"] is None


def test_a_candidate_trains_with_its_own_program_and_the_searchs_evaluation_cases(search):
    done = search(flat({"0-0": 1, "0-1": 2, "1-0": 3, "1-1": 4}))
    assert done.starts == [["0-0", "0-1"], ["1-0", "1-1"]]
    for name, child in zip(["0-0", "0-1", "1-0", "1-1"], done.children()):
        assert child["wrapper"]["artifact"] == str(done.directory / "programs" / f"{name}.py")
        assert child["choices"]["method"] == "vanilla" and child["eval"]["seed"] == 1000
        assert child["budget"]["env_steps"] == 100
    assert len({child["seed"] for child in done.children()}) == 4
    assert read_json(done.directory / "candidates" / "0-0" / "status.json")["status"] == "DONE"

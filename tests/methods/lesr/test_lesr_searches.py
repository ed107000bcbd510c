"""LESR's presets as searches whose answers and trainings are made up: what is asked, and what would be trained."""

import pytest
from made_search import FEATURES, Search, evaluations


@pytest.fixture
def searched(tmp_path, monkeypatch):
    """A search of a preset on Hopper; its first candidate may fail for a reason."""

    def search(preset="mujoco", fails="", **changes):
        directory = tmp_path / str(len(list(tmp_path.iterdir())))
        directory.mkdir()
        done = evaluations(1, 2, 3, 4, 5), [1.5] * (11 + FEATURES)
        trained = lambda name: fails if fails and name == "0-0" else done  # noqa: E731
        overrides = (f"experiment=lesr/{preset}", "env=mujoco/hopper")
        return Search(directory, monkeypatch, trained, overrides=overrides, **changes)

    return search


def test_a_failed_candidate_is_feedback_and_not_the_end(searched):
    done = searched(fails="SandboxFailure: raised")
    (feedback,) = done.llm.prompts("lesr.feedback")
    assert "failed: SandboxFailure: raised" in feedback
    told = done.found["candidates"]
    assert told[0]["failed"] and told[0]["score"] is None and all(not c["failed"] for c in told[1:])
    assert done.found["rejected"] == {}


def test_a_program_found_impure_in_training_counts_as_rejected(searched):
    found = searched(iterations=1, fails="SandboxFailure: impure: why").found
    assert found["candidates"][0]["failed"] == "failed: SandboxFailure: impure: why"
    assert found["rejected"] == {"impure": 1}


DIFFERENT = {  # preset -> what of a candidate's training is another than in lesr/mujoco
    "without_reward": {"w": 0},
    "without_features": {"state": "source"},
    "eureka_add": {"w": 1.0},
    "eureka_replace": {"w": 1.0, "reward": "replace"},
    "discounted_return": {"record": "discounted_return"},
    "authors_lipschitz": {"record": "cumulative"},
    "scaled_lipschitz": {"scaled": True},
}


@pytest.mark.parametrize("preset", DIFFERENT)
def test_what_a_preset_trains_otherwise(searched, preset):
    base, other = searched().children()[0], searched(preset).children()[0]
    plain, wrapper = base["wrapper"], other["wrapper"]
    assert plain["record"] == "episode"
    differs = {k: v for k, v in wrapper.items() if v != plain[k] and k != "artifact"}
    assert differs == DIFFERENT[preset]
    assert other["agent"] == base["agent"] and other["budget"] == base["budget"]


def test_without_feedback_every_round_is_the_first(searched):
    llm = searched("without_feedback").llm
    assert llm.prompts("lesr.feedback") == [] and len(llm.prompts("lesr.sample")) == 4
    assert len(set(llm.prompts("lesr.sample"))) == 1


def test_without_lipschitz_the_feedback_names_scores_only(searched):
    (with_them,) = searched().llm.prompts("lesr.feedback")
    (without,) = searched("without_lipschitz").llm.prompts("lesr.feedback")
    assert "Lipschitz" in with_them and "1.5" in with_them
    assert "Lipschitz" not in without and "1.5" not in without


def test_without_chain_of_thought_the_next_round_sees_scores_without_suggestions(searched):
    llm = searched("without_chain_of_thought").llm
    first, *_, last = llm.prompts("lesr.sample")
    assert llm.prompts("lesr.feedback") == [] and "4.50" in last and "4.50" not in first
    assert "Suggestions" in searched().llm.prompts("lesr.sample")[-1] and "Suggestions" not in last


@pytest.mark.parametrize("preset", ["eureka_add", "eureka_replace"])
def test_as_eureka_the_llm_is_asked_for_a_reward_alone(searched, preset):
    prompts = searched(preset).llm.prompts("lesr.sample")
    assert "def intrinsic_reward" in prompts[0] and "revise_state" not in prompts[0]

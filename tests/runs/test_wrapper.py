"""conf/wrapper: what stands between an environment and its agent, found by its name, and kept with what it names."""

import json
from pathlib import Path

import pytest
from command_line import in_process  # noqa: F401 (the fixture `llmrl`)
from conftest import CART_POLE, compose, only_run, run_directories
from own_directory import TINY, own_directory  # noqa: F401 (the fixture `own`)

from llmrl.checks import ConfigError
from llmrl.commands.completion import candidates
from llmrl.config import from_node, identity, wrapped
from llmrl.runs.children import node_of
from llmrl.runs.files import read_json, read_jsonl
from llmrl.runs.kept_wrapper import kept


@pytest.fixture
def bonus(own, tmp_path) -> list[str]:
    """The words of a run in a wrapper of one's own."""
    (tmp_path / "mine.txt").write_text("0.5")
    return [*TINY, "wrapper=own_bonus", f"wrapper.file={tmp_path / 'mine.txt'}"]


def test_a_wrapper_of_ones_own_is_listed_completed_and_named_in_errors(own, llmrl):
    assert "own_bonus  A bonus." in llmrl("list", "wrapper").out
    assert {"wrapper=lesr", "wrapper=none", "wrapper=own_bonus"} <= set(candidates(["run"], "wrapper="))
    assert "wrapper.times=" in candidates(["run", "wrapper=own_bonus"], "wrapper.t")
    done = llmrl("run", *TINY, "wrapper=own_bonos")
    assert done.code == 2 and "wrapper: there is no `own_bonos`. Did you mean `own_bonus`?" in done.err
    done = llmrl("run", *TINY, "wrapper=own_bonus")
    assert done.code == 2 and "wrapper.file" in done.err


def test_the_run_keeps_it_for_whoever_plays_the_agent_later(bonus, llmrl, tmp_path):
    done = llmrl("run", *bonus)
    assert done.code == 0, done.err
    run = only_run(tmp_path)
    assert read_json(run / "result.json")["wrapper"] == {"paid": 60.0, "words": ["bonus"]}  # 60 env_steps
    assert read_json(run / "wrapper.json") == {"name": "own_bonus", "values": {"file": "bonus.txt", "times": 2.0}}
    Path(tmp_path / "mine.txt").unlink()
    assert kept(run).file == str(run / "bonus.txt")
    assert llmrl("eval", str(run), "--episodes", "1").code == 0
    done = llmrl("run", *TINY, "method=pretrained", f"method.run={run}", "study=played", "eval.workers=2")
    assert done.code == 0, done.err
    (played,) = run_directories(tmp_path / "outputs" / "played")
    last = read_jsonl(run / "eval.jsonl")[-1]
    assert [row["returns"] for row in read_jsonl(played / "eval.jsonl")] == [last["returns"]]


def test_a_damaged_record_is_named(bonus, llmrl, tmp_path):
    assert llmrl("run", *bonus).code == 0
    (only_run(tmp_path) / "wrapper.json").write_text("{")
    done = llmrl("eval", str(only_run(tmp_path)))
    assert done.code == 2 and "wrapper.json is damaged" in done.err


def test_it_counts_by_content_and_not_at_all_where_there_is_none(bonus, own, tmp_path):
    plain, one = from_node(compose(TINY)), from_node(compose(bonus))
    assert plain.wrapper is None and "wrapper" not in identity(plain) and "wrapper" not in identity(plain)["name"]
    before = identity(one)
    assert before["name"]["wrapper"] == "own_bonus" and before["wrapper"]["times"] == 2.0
    (tmp_path / "mine.txt").write_text("0.75")
    assert identity(one) != before
    assert wrapped(plain, one.wrapper).choices["wrapper"] == "own_bonus"
    for config in (plain, one):  # as a child reads it
        assert from_node(json.loads(json.dumps(node_of(config)))).wrapper == config.wrapper


def test_other_content_of_the_same_file_is_another_run(bonus, llmrl, tmp_path):
    assert llmrl("run", *bonus).code == 0
    (tmp_path / "mine.txt").write_text("0.75")
    assert llmrl("run", *bonus).code == 0
    assert len(run_directories(tmp_path / "outputs")) == 2


def test_none_has_no_keys_and_a_run_from_before_wrappers_has_none():
    node = compose(CART_POLE)
    with pytest.raises(ConfigError, match="wrapper.w: unknown key"):
        from_node(node | {"wrapper": {"w": 1}})
    del node["wrapper"], node["choices"]["wrapper"]
    assert from_node(node).wrapper is None


def test_a_dataset_knows_no_wrapper():
    offline = ["method=offline", "agent=bc", "method.dataset=nowhere/x-v0", "env=classic/cart_pole", "budget.updates=5"]
    with pytest.raises(ConfigError, match="use wrapper=none"):
        from_node(compose([*offline, "wrapper=lesr", "wrapper.artifact=mine.py"]))

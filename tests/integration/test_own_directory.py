"""A user's own modules, yaml files and numbers (LLMRL_PATH) work wherever ours do."""

import os

import pytest
from command_line import in_process  # noqa: F401 (the fixture `llmrl`)
from conftest import Process, only_run, run_directories, status
from own_directory import FILES, TINY, make_directory, own_directory  # noqa: F401 (the fixture `own`)

from llmrl.checks import ConfigError
from llmrl.conf_files import extend_packages, extra_roots
from llmrl.hydra_compose import compose
from llmrl.report.published import lookup, published
from llmrl.runs.files import read_jsonl

# A number of names that Hydra's grammar of overrides reads otherwise, or not at all.
NAMES = ["läb", "lab=x", "lab(1)", "lab's", "lab,2", "lab[0]", "lab x", "lab$y", "lab${y}", "lab%20", "lab{a}", "lab#1",
         'lab"z', "lab\\", "~lab", "+lab", "lab*", "null"]  # fmt: skip
LESR = ["method=lesr", "method.search_env_steps=60", "method.search.k=1", "method.search.iterations=1",
        "method.search.score_window=30", "method.search.states=60"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_directory_may_have_any_name(name, tmp_path, monkeypatch):
    for path in (path for path in FILES if path.startswith("conf/")):
        (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name / path).write_text(FILES[path])
    monkeypatch.setenv("LLMRL_PATH", str(tmp_path / name))
    extra_roots.cache_clear()
    node = compose(TINY)
    extra_roots.cache_clear()
    assert (node["env"]["length"], node["agent"]["stubborn"]) == (5, True)


def test_a_relative_directory_reaches_the_processes_of_evaluations(tmp_path):
    """Two directories, one with a name of its own kind; each holds a part of what the run needs."""
    whole, agents = make_directory(tmp_path / "lab's [0], (x)=1"), tmp_path / "läb"
    for path in ("agents/own_agent.py", "conf/agent/own_agent.yaml"):
        (agents / path).parent.mkdir(parents=True, exist_ok=True)
        (whole / path).rename(agents / path)
    done = Process([*TINY, "eval.workers=2"], tmp_path, {"LLMRL_PATH": f"{whole.name}:läb"}).end()
    assert done.code == 0, done.err
    greedy = [row for row in read_jsonl(only_run(tmp_path) / "eval.jsonl") if row["policy"] == "greedy"]
    assert [row["lengths"] for row in greedy] == [[5, 5]] * 4


def test_what_is_below_a_directory_is_listed_checked_run_played_and_compared(own, llmrl, tmp_path):
    assert "own/" in llmrl("list").out and "a corridor" in llmrl("list", "env").out
    assert "discrete" in next(line for line in llmrl("list", "agent").out.splitlines() if "own_agent" in line)
    assert llmrl("check", *TINY).code == 0
    assert llmrl("plan", "own/table").code == 0
    assert llmrl("run", *TINY).code == 0
    run = only_run(tmp_path)
    assert llmrl("run", "--from", str(run)).code == 0
    played = llmrl("eval", str(run), "--episodes", "1")
    assert played.code == 0 and "15.0" in played.out
    table = llmrl("table", "own/table")
    assert table.code == 0 and "14.5" in table.out and "15" in table.out  # theirs and ours, 1 + 2 + 3 + 4 + 5


def test_a_search_trains_its_candidates_and_can_be_checked(own, llmrl, tmp_path):
    done = llmrl("check", *TINY, *LESR)
    assert done.code == 0, done.out + done.err
    assert "env_steps, 1 update at" in done.out


def test_an_unknown_key_of_ones_own_environment_is_named(own, llmrl):
    done = llmrl("run", *TINY, "env.lenght=3")
    assert done.code == 2 and "env.lenght: unknown key (command line). Did you mean `env.length`?" in done.err
    done = llmrl("run", *TINY, "env.task.rewrd=3")
    assert done.code == 2 and "env.task.rewrd: unknown key (command line). Did you mean `env.task.reward`?" in done.err


@pytest.mark.parametrize("text", [
    "defaults: [/env/_task@task, _self_]", "defaults: [{/env/_task@task: null}]", "defaults: [optional nowhere@task]",
    "defaults: [{}, '', '@', _self_]", "defaults: 3", "- a list", "\tno yaml", "defaults: [{'/env@task': [a, b]}]",
    "defaults: [{'override /agent@x.y': '${z}'}]",
])  # fmt: skip
def test_whatever_stands_in_another_yaml_an_unknown_key_is_named(own, llmrl, text):
    (own / "conf" / "env" / "own" / "other.yaml").write_text(text)
    done = llmrl("run", *TINY, "env.lenght=3")
    assert done.code == 2 and "env.lenght: unknown key (command line). Did you mean `env.length`?" in done.err


def test_a_directory_that_is_not_there_is_named(own, llmrl, monkeypatch, tmp_path):
    monkeypatch.setenv("LLMRL_PATH", f"{own}:{tmp_path / 'labb'}")
    extra_roots.cache_clear()
    done = llmrl("run", *TINY)
    assert done.code == 2 and f"LLMRL_PATH: there is no directory {tmp_path / 'labb'}" in done.err
    assert run_directories(tmp_path) == []


def test_a_number_of_ones_own_stands_beside_ours(own):
    assert lookup("own", "1", "Corridor", "Mine").value == 14.5
    assert lookup("llm_explorer", "4", "Freeway", "M=100,K=1").value == 69.71


@pytest.mark.parametrize(("line", "message"), [
    (",,,,,,,1.5,,,,verbatim,,", "line 3: a number needs a source"),
    ("own,1,Corridor,Other,,,,1;5,,,,verbatim,s,", "line 3: value is not a number: '1;5'"),
    ("own,1,Corridor,Other,,,,nan,,,,verbatim,s,", "line 3: value is not a number: 'nan'"),
    ("own,1,Corridor,Other,,,,1,,1.5,,verbatim,s,", "line 3: n is not a number: '1.5'"),
    ("own,1,Corridor,Mine,,,,1,,,,verbatim,s,", r"line 3: own / 1 / Corridor / Mine is given twice \(also.*, line 2\)"),
    ("llm_explorer,4,Freeway,DQN,,,,1,,,,verbatim,s,", r"line 3: .* given twice \(.*llm_explorer/published.csv, line"),
])  # fmt: skip
def test_a_wrong_line_of_ones_own_is_named(own, line, message):
    with open(own / "published" / "own.csv", "a") as file:
        file.write(f"{line}\n")
    with pytest.raises(ConfigError, match=f"{own}/published/own.csv, {message}"):
        published()


@pytest.mark.parametrize("content", [b"\xff\xfe,", b"paper;table\n"])
def test_a_file_that_is_no_csv_is_named(own, llmrl, content):
    (own / "published" / "other.csv").write_bytes(content)
    done = llmrl("table", "own/table")
    assert done.code == 2 and "other.csv" in done.err


def test_a_spreadsheets_mark_at_the_beginning_is_no_part_of_a_column(own):
    file = own / "published" / "own.csv"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert lookup("own", "1", "Corridor", "Mine").value == 14.5


def test_the_runs_of_a_table_are_made_in_a_study_of_any_name(own, llmrl, tmp_path):
    done = llmrl("plan", "own/table", "--study", "it's, [1] läb=x", "--run")
    assert done.code == 0, done.out + done.err
    (run,) = run_directories(tmp_path)
    assert run.relative_to(tmp_path / "outputs").parts[0] == "it's, [1] läb=x"
    assert status(run) == "DONE"


def test_a_relative_directory_named_twice_is_one_and_absolute_for_children(own, monkeypatch):
    monkeypatch.chdir(own.parent)
    monkeypatch.setenv("LLMRL_PATH", "lab::./lab")
    extra_roots.cache_clear()
    extend_packages()
    assert extra_roots() == [own] and os.environ["LLMRL_PATH"] == str(own)
    assert published()["own", "1", "Corridor", "Mine"].value == 14.5


def test_agents_that_fit_are_named_although_one_cannot_be_imported(own, llmrl):
    (own / "agents" / "own_broken.py").write_text("import nothing_of_this_name\n")
    (own / "conf" / "agent" / "own_broken.yaml").write_text("defaults: [dqn, _self_]\n")
    done = llmrl("run", "agent=td3", "env=own/corridor")
    assert done.code == 2 and "has discrete ones" in done.err and "dqn" in done.err and "own_agent" in done.err


@pytest.mark.parametrize("without", ["Config", "make"])
def test_a_suite_that_lacks_a_part_is_named_with_its_file(without, own, llmrl):
    file = own / "envs" / "own_corridor.py"
    file.write_text(
        file.read_text().replace(f"class {without}", "class Other").replace(f"def {without}(", "def other(")
    )
    done = llmrl("run", "agent=own_agent", "env=own/corridor")
    assert done.code == 2 and f"env.suite: {file} is no suite" in done.err and "Traceback" not in done.err

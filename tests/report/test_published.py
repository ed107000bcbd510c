"""Published numbers: each has a source, what nobody has seen is empty, and the files agree with themselves."""

import csv
from pathlib import Path

import pytest

from llmrl.checks import ConfigError
from llmrl.conf_files import conf_root, published_files
from llmrl.report.published import COLUMNS, atari_reference, lookup, published, read

ROW = {
    "paper": "p",
    "table": "1",
    "row": "r",
    "column": "c",
    "value": "1.5",
    "seen": "verbatim",
    "source": "p, Table 1",
}


def write(directory: Path, *rows: dict, columns: list[str] = COLUMNS) -> Path:
    path = directory / "p.csv"
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_a_number_is_found_by_paper_table_row_and_column():
    cell = lookup("llm_explorer", "4", "Freeway", "M=100,K=1")
    assert (cell.value, cell.unit, cell.n, cell.env) == (69.71, "%", 3, "atari/freeway")
    assert "2505.15293" in cell.source


def test_a_number_that_nobody_has_seen_is_none(tmp_path):
    (cell,) = read(write(tmp_path, ROW | {"value": ""})).values()
    assert cell.value is None
    assert lookup("llm_explorer", "2", "human-normalised score", "GPT-4o").value is None


@pytest.mark.parametrize(
    "key, message",
    [
        (("llm_explorr", "4", "Alien", "DQN"), "`llm_explorr`. Did you mean `llm_explorer`"),
        (
            ("llm_explorer", "4", "MsPacmann", "DQN"),
            "4: there is no `MsPacmann`. Did you mean `MsPacman`",
        ),
        (("llm_explorer", "4", "Alien", "x"), r"There are: DQN, M=100,K=1"),
    ],
)
def test_an_unknown_key_says_what_there_is(key, message):
    with pytest.raises(ConfigError, match=message):
        lookup(*key)


@pytest.mark.parametrize(
    "second, message",
    [
        ({"row": "s", "source": " "}, r"p\.csv, line 3: a number needs a source"),
        ({"row": "s", "seen": ""}, r"p\.csv, line 3: seen must be how the number was read .verbatim, digitised"),
        ({"row": "s", "seen": "guessed"}, r"line 3: .*not 'guessed'"),
        ({"row": "s", "value": "1,5"}, r"p\.csv, line 3: value is not a number: '1,5'"),
        ({}, r"p\.csv, line 3: p / 1 / r / c is given twice"),
    ],
)
def test_a_wrong_row_is_named_by_file_and_line(tmp_path, second, message):
    file = write(tmp_path, ROW, ROW | second)
    with pytest.raises(ConfigError, match=message):
        read(file)


def test_a_comma_without_quotes_is_seen(tmp_path):
    file = write(tmp_path, ROW)
    file.write_text(file.read_text().rstrip() + ",too much\n")
    with pytest.raises(ConfigError, match="line 2: 14 columns expected"):
        read(file)


def test_other_columns_are_refused(tmp_path):
    file = write(tmp_path, {"paper": "p", "value": "1"}, columns=["paper", "value"])
    with pytest.raises(ConfigError, match="line 1: the columns must be"):
        read(file)


def test_the_reference_has_the_26_games_of_our_configuration():
    reference = atari_reference()
    ours = {f"atari/{file.stem}" for file in (conf_root() / "env" / "atari").glob("[a-z]*.yaml")}
    assert len(reference) == 26 and set(reference) == ours
    assert reference["atari/freeway"] == (0.0, 29.6)
    assert all(human > random for random, human in reference.values())


def test_derived_scores_follow_from_the_published_ones():
    cells = [c for c in published().values() if (c.paper, c.table) == ("llm_explorer", "4_raw")]
    assert len(cells) == 15
    for cell in cells:
        random, human = atari_reference()[cell.env]
        percent = lookup("llm_explorer", "4", cell.row, cell.column).value
        assert cell.value == pytest.approx(random + percent / 100 * (human - random), abs=0.06)
        assert "derived" in cell.note


def test_freeway_without_seeing_it_is_normalised_by_the_same_reference():
    random, human = atari_reference()["atari/freeway"]
    for p in ("1/3", "0.5", "0.6", "0.7", "0.8", "0.9", "1.0"):
        score, percent = (lookup("llm_explorer", "freeway_fixed", f"P(up)={p}", c).value for c in ("score", "hns"))
        assert percent == pytest.approx(100 * (score - random) / (human - random), abs=0.1)


def test_every_number_stands_beside_a_source():
    papers = {file.parent.name for file in published_files() if file.name == "published.csv"}
    assert {"explorllm", "kalm", "lesr", "llm_explorer"} <= papers
    assert all(cell.source and cell.metric and cell.unit for cell in published().values())


@pytest.mark.parametrize("key, value, how", [
    (("llm_explorer", "4", "Alien", "DQN"), 0.26, "verbatim"),
    (("llm_explorer", "4_raw", "Alien", "DQN"), 245.7, "derived"),
    (("kalm", "clevr", "task in data", "CQL+KALM"), 0.49, "digitised"),
    (("kalm", "headline", "novel goals", "KALM"), 0.46, "verbatim"),
    (("kalm", "setting", "easy", "imaginary rollouts"), 72_400, "verbatim"),
    (("explorllm", "curves_short_horizon", "epsilon 0 %", "1000"), -2.37, "inferred"),
    (("explorllm", "development", "RL seed 0", "steps, seen colours"), 2.66, "derived"),
    (("explorllm", "development_rollout_short", "with LLM exploration", "2000"), -1.73, "digitised"),
])  # fmt: skip
def test_every_number_says_how_it_was_read(key, value, how):
    cell = lookup(*key)
    assert (cell.value, cell.seen) == (value, how)
    assert all(bool(c.seen) == (c.value is not None) for c in published().values())


def test_what_the_notes_say_of_the_development_rows_and_of_kalms_first_bars():
    steps = lookup("explorllm", "development", "RL seed 0", "steps, seen colours").note
    assert "at most 6 primitives (the baseline: 5)" in steps and "counts from 0, plus 1" in steps
    assert "rephrasing goals (section 4.2)" in lookup("kalm", "clevr", "task in data", "BC+KALM").note

"""Reading numbers out of answers: what is accepted, and the name of every failure."""

import numpy as np
import pytest

from llmrl.envs.clevr_robot.goals import BASE
from llmrl.envs.clevr_robot.language import read as rephrased
from llmrl.llm.answer import without_thoughts
from llmrl.llm.parse import ParseError, parse_biases, parse_probabilities
from llmrl.llm.program_text import Rejected
from llmrl.methods.explorllm.language import Unreadable, read_plan
from llmrl.methods.explorllm.program import Rejected as NoProgram
from llmrl.methods.explorllm.program import extract as extract_one
from llmrl.methods.lesr.program import extract


@pytest.mark.parametrize(
    "answer",
    [
        '{"0": 0.25, "1": 0.75, "2": 0}',
        "{0: 0.25, 1: 0.75, 2: 0.0}",
        "{'0': '25%', '1': '75 %', '2': 0}",
        "{0: .25, 1: 7.5e-1, 2: 0e0,}",
        "{1: 0.25, 2: 0.75, 3: 0}",
        "{0: 1, 1: 3, 2: 0}",
        "{0: [0.25], 1: [0.75], 2: [0]}",
        """{"0": ["0.25"], "1": ' 75% ', "2": 0.}""",
        "{0 : 0.25 , ' 1 ' : 7500e-4, 2 : +0}",
        '{"probabilities": {"0": 0.25, "1": 0.75, "2": 0}}',
        "At first {0: 1, 1: 0, 2: 0}.\n```json\n{\n 0: 0.25, // rest\n 1: 0.75,\n 2: 0\n}\n```\nThe sum is 1.0.",
        "{2: 0, 1: 0.75, 0: 0.25}",
        "{0: 25%, 1: 0.75, 2: 0}",
        "{0: 0.25, 1: 75 %, 2: 0%}",
        "{0: **0.25**, 1: **75%**, 2: 0}",
        "{0: 0.25, 1: 0.75, 2: 0}\nHere {0, 1, 2} are the actions, set `p = {}` and `f'{p:.2f}'` if {you} like {x: 1}.",
    ],
)
def test_ways_to_write_the_same_distribution(answer: str) -> None:
    np.testing.assert_allclose(parse_probabilities(answer, 3), [0.25, 0.75, 0.0])


@pytest.mark.parametrize(
    ("reason", "answer"),
    [
        ("empty", None),
        ("empty", " \n"),
        ("truncated", '{"0": 0.5, "1": 0.'),
        ("truncated", "{0: 1, 1: 0} or rather {0: 0.5, 1:"),
        ("not_json", "Action 1 should be explored more."),
        ("not_json", "{action: 0.5, other: 0.5}"),
        ("not_json", "{0, 1} and {the: rest}"),
        ("not_a_number", "{0: **0.5, 1: 0.5}"),
        ("not_a_number", "{0: 1, 1: 0}, or not: {0: unknown}"),
        ("not_a_number", "{0: 0.5; 1: 0.5}"),
        ("wrong_length", "{}"),
        ("wrong_length", "{0: 1.0}"),
        ("wrong_length", "{0: 0.5, 1: 0.25, 2: 0.25}"),
        ("wrong_length", "{0: 0.5, 0: 0.5}"),
        ("wrong_length", "{2: 0.5, 3: 0.5}"),
        ("not_a_number", "{0: [probability], 1: 0.5}"),
        ("not_a_number", '{"0": null, "1": 0.5}'),
        ("not_a_number", '{"0": "", "1": 0.5}'),
        ("not_finite", "{0: NaN, 1: 0.5}"),
        ("not_finite", '{"0": -Infinity, "1": 0.5}'),
        ("not_finite", "{0: 1e999, 1: 0.5}"),
        ("not_a_number", '{"0": 25%%, "1": 0.5}'),
        ("not_a_number", "{0: 0.25]], 1: 0.5}"),
        ("not_a_number", "{0: [0.25, 1: 0.5}"),
        ("not_a_number", "{0: [0.25], 1: 0.5]}"),
        ("not_a_number", """{0: "0.5"", 1: 0.5}"""),
        ("not_a_number", """{0: "0.5', 1: 0.5}"""),
        ("not_a_number", "{0: 0.5., 1: 0.5}"),
        ("not_a_number", "{0: 0..5, 1: 0.5}"),
        ("not_a_number", "{0: +-1, 1: 0.5}"),
        ("not_a_number", "{0: --1, 1: 0.5}"),
        ("not_a_number", "{0: 1e5%, 1: 0.5}"),
        ("not_a_number", "{0: %25, 1: 0.5}"),
        ("not_a_number", "{0: %, 1: 0.5}"),
        ("not_a_number", "{0: 5 0, 1: 0.5}"),
        ("not_a_number", "{0: 25  %, 1: 0.5}"),
        ("not_a_number", "{0: \N{VULGAR FRACTION ONE HALF}, 1: 0.5}"),
        ("not_a_number", "{0: 1_000, 1: 0.5}"),
        ("not_a_number", "{0: 0x10, 1: 0.5}"),
        ("not_a_number", "{0: 1/2, 1: 0.5}"),
        ("not_a_number", "{0: \N{ARABIC-INDIC DIGIT ONE}, 1: 0.5}"),
        ("not_a_number", "{0: nan%, 1: 0.5}"),
        ("not_a_number", "{0: ., 1: 0.5}"),
        ("not_a_number", "{0: e5, 1: 0.5}"),
        ("not_a_number", "{0: 0:5, 1: 0.5}"),
        ("not_json", "{0: 0,5, 1: 0,5}"),
        ("not_json", '{"0: 0.5, 1": 0.5}'),
        ("not_json", "{\N{ARABIC-INDIC DIGIT ONE}: 0.5, 0: 0.5}"),
        ("negative", "{0: -0.5, 1: 1.5}"),
        ("all_zero", "{0: 0, 1: 0.0}"),
    ],
)
def test_every_failure_has_its_name(reason: str, answer: str | None) -> None:
    with pytest.raises(ParseError) as failure:
        parse_probabilities(answer, 2)
    assert failure.value.reason == reason
    assert str(failure.value).startswith(f"{reason}: ")


def test_probabilities_are_normalised_without_overflow() -> None:
    np.testing.assert_allclose(parse_probabilities("{0: 1e308, 1: 1e308, 2: 0}", 3), [0.5, 0.5, 0])
    assert parse_probabilities("{0: 0.33, 1: 0.33, 2: 0.33}", 3).sum() == pytest.approx(1, abs=1e-15)


def test_biases_keep_their_signs_and_may_be_zero() -> None:
    answer = "{0: -0.05, 1: +.2, 2: \N{MINUS SIGN}1e-3, 3: -0}"
    assert parse_biases(answer, 4).tolist() == [-0.05, 0.2, -0.001, 0.0]
    assert parse_biases("{0: 0, 1: 0}", 2).tolist() == [0.0, 0.0]


def test_the_authors_regex_loses_signs_and_is_shifted_by_later_decimals() -> None:
    assert parse_biases("{0: -0.05, 1: 0.2}", 2, "authors_regex").tolist() == [0.05, 0.2]
    assert parse_probabilities("{0: 0.2, 1: 0.8} Total 1.0", 2, "authors_regex").tolist() == pytest.approx(
        [0.8 / 1.8, 1.0 / 1.8]
    )
    with pytest.raises(ParseError, match="wrong_length: 1 decimal"):
        parse_probabilities("{0: 0, 1: 0.5}", 2, "authors_regex")


def test_a_percentage_is_a_hundredth_also_as_a_bias() -> None:
    assert parse_biases("{0: 10%, 1: -250 %, 2: 0.5}", 3).tolist() == [0.1, -2.5, 0.5]
    assert str(parse_biases("{0: -0.0, 1: -0%}", 2)) == "[0. 0.]"


LONG = 200_000  # llm.max_answer_chars
PIECES = [
    "\n",
    " ",
    "{",
    "}",
    "[{",
    "{0:",
    "0",
    "1.",
    ".",
    "%",
    '"',
    "'",
    "1,",
    "//",
    "-",
    "1e",
    "<think>",
    "```\n",
    "1,\\\n",
]


@pytest.mark.parametrize("around", [("", ""), ("{", "}"), ("{0: ", "}"), ("[{", "}]"), ("```python\ndef f():\n", "")])
@pytest.mark.parametrize("piece", PIECES)
def test_an_answer_that_is_long_and_hostile_is_read_in_one_pass(piece: str, around: tuple[str, str]) -> None:
    """Where a parser takes quadratic time, this takes hours."""
    text = around[0] + piece * (LONG // len(piece)) + around[1]
    for read in (
        lambda: parse_biases(text, 4),
        lambda: read_plan(text),
        lambda: extract(text),
        lambda: extract_one(text, "planner"),
    ):
        with pytest.raises((ParseError, Unreadable, Rejected, NoProgram)):
            read()
    assert rephrased(text, BASE[0]) == []
    assert len(without_thoughts(text)[0]) <= len(text)


def test_prose_and_a_program_of_many_parts() -> None:
    program = "def revise_state(s):\n    return s\n\ndef intrinsic_reward(s):\n    return 0.0"
    assert extract(f"Here it is.\n\n{program}\n\nIt returns zero, always.\n" + "More prose. " * 5000).strip() == program
    with pytest.raises(Rejected) as caught:
        extract(program + "\nx = 1" * 5000)
    assert caught.value.name == "too_long"

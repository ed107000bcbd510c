"""Plots of many runs: what is averaged with what, what is named, what is refused."""

import shutil

import numpy as np
import pytest
from command_line import in_process  # noqa: F401 (the fixture llmrl)
from made_runs import answered, make_run

from llmrl.checks import ConfigError
from llmrl.methods.lesr.report import lipschitz
from llmrl.methods.llm_explorer.report import exploration, over_training, refreshes
from llmrl.report.figures.bars import bars
from llmrl.report.figures.curves import curves
from llmrl.report.figures.profile import profile
from llmrl.report.figures.style import SCORES, save
from llmrl.report.store.groups import differing, gather, select
from llmrl.runs.files import read_json, write_json

# --- what belongs together --------------------------------------------------------------------------------------------


def test_seeds_are_averaged_and_settings_are_not(tmp_path):
    for seed in (1, 0):
        make_run(tmp_path, seed=seed)
    make_run(tmp_path, k=4)
    groups = gather(select([tmp_path]))
    assert [(g.name, [r.seed for r in g.runs]) for g in groups] == [
        ("vanilla-dqn · method.k=1", [0, 1]),
        ("vanilla-dqn · method.k=4", [0]),
    ]


def test_groups_are_named_by_what_tells_them_apart(tmp_path):
    """Keys that only some have, such as those of an LLM, are named where nothing else tells two groups apart."""
    runs = [make_run(tmp_path, seed=seed, k=k) for seed, k in enumerate((1, 1, 2, 2))]

    def named(*asked):
        for run, llm in zip(runs, asked):
            identity = {key: value for key, value in read_json(run / "identity.json").items() if key != "llm"}
            write_json(run / "identity.json", identity | ({"llm": llm} if llm else {}))
        return sorted(group.name.removeprefix("vanilla-dqn · ") for group in gather(select([tmp_path])))

    assert named(None, None, {"model": "a"}, {"model": "a"}) == ["method.k=1", "method.k=2"]
    assert named(None, None, None, {"model": "a"}) == ["method.k=1", "method.k=2", "method.k=2 · llm.model=a"]
    assert named(None, None, {"model": "a"}, {"model": "b"}) == [
        "method.k=1", "method.k=2 · llm.model=a", "method.k=2 · llm.model=b"
    ]  # fmt: skip


def test_a_run_that_was_made_twice_counts_once(tmp_path):
    make_run(tmp_path, study="a", status="INTERRUPTED")
    whole = make_run(tmp_path, study="b")
    (group,) = gather(select([tmp_path]))
    assert [run.path for run in group.runs] == [whole]


def test_damaged_runs_are_left_out(tmp_path):
    make_run(tmp_path, seed=0)
    (make_run(tmp_path, seed=1) / "eval.jsonl").write_text("no json\n")
    (group,) = gather(select([tmp_path]))
    assert [run.seed for run in group.runs] == [0]


@pytest.mark.parametrize("below", ["", "a", "a/b", "a/b/vanilla-dqn", "a/b/vanilla-dqn/classic-cart_pole/s0-00000001"])
def test_any_directory_above_or_of_a_run_names_it(tmp_path, below):
    make_run(tmp_path / "outputs", study="a/b")
    (record,) = select([tmp_path / "outputs" / below])
    assert (record.study, record.method, record.env, record.seed) == ("a/b", "vanilla", "classic/cart_pole", 0)


def test_only_the_runs_below_the_directory_count(tmp_path):
    make_run(tmp_path, seed=0)
    path = make_run(tmp_path, seed=1)
    assert [record.path for record in select([path, path.parent / path.name])] == [path]


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()], ids=["missing", "empty"])
def test_a_directory_without_runs_is_refused(tmp_path, make):
    make(tmp_path / "x")
    with pytest.raises(ConfigError, match="x"):
        select([tmp_path / "x"])


# --- curves -----------------------------------------------------------------------------------------------------------


def drawn(figure, axes=0) -> dict[str, np.ndarray]:
    """Lines of a panel: label -> (x, y)."""
    return {line.get_label(): line.get_xydata() for line in figure.axes[axes].get_lines()}


def test_the_line_is_the_mean_over_runs_as_far_as_all_have_come(tmp_path):
    make_run(tmp_path, seed=0, returns=(1.0, 2.0, 3.0))
    make_run(tmp_path, seed=1, returns=(3.0, 6.0), status="INTERRUPTED")
    make_run(tmp_path, seed=2, returns=(2.0, 4.0), status="INTERRUPTED")
    figure = curves(gather(select([tmp_path])))
    assert drawn(figure)["vanilla-dqn"].tolist() == [[0, 2], [100, 4]]
    (band,) = figure.axes[0].collections
    # Student's t of n = 3: 2 ± 4.3027 · 1/√3 at 0, 4 ± 4.3027 · 2/√3 at 100, as the table beside it says
    low, height = band.get_paths()[0].get_extents().bounds[1::2]
    assert (low, low + height) == pytest.approx((4 - 4.96828, 4 + 4.96828), abs=1e-4)
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["vanilla-dqn, n\u00a0=\u00a03 (2 unfinished)", "random policy"]
    assert "95 % interval (Student's t; none below 3 runs)" in figure.legends[0].get_title().get_text()


def test_two_runs_have_neither_band_nor_error_bar(tmp_path):
    make_run(tmp_path)
    make_run(tmp_path, seed=1, returns=(3.0, 6.0, 9.0))
    axes = bars(gather(select([tmp_path]))).axes[0]
    assert len(axes.containers) == 1 and axes.containers[0].patches[0].get_height() == 6.0  # of bars; none of errors
    assert not curves(gather(select([tmp_path]))).axes[0].collections


def test_a_panel_per_environment_and_one_colour_per_method(tmp_path):
    for env in ("classic/cart_pole", "classic/pendulum"):
        for method in ("vanilla", "other"):
            make_run(tmp_path, env=env, method=method)
    figure = curves(gather(select([tmp_path])))
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["classic/cart_pole", "classic/pendulum"]
    colours = [{line.get_label(): line.get_color() for line in axes.get_lines()} for axes in figure.axes]
    assert colours[0] == colours[1] and colours[0]["vanilla-dqn"] != colours[0]["other-dqn"]


def test_a_long_legend_takes_no_room_from_the_panels(tmp_path):
    make_run(tmp_path)
    alone = curves(gather(select([tmp_path])))
    for i in range(20):
        make_run(tmp_path, method=f"method_{i}")
    many = curves(gather(select([tmp_path])))
    heights = []
    for figure in (alone, many):
        figure.draw_without_rendering()
        heights.append(figure.axes[0].get_position().height * figure.get_figheight())
    assert heights[1] == pytest.approx(heights[0], rel=0.1)


def test_a_part_that_is_null_is_named_and_not_all_that_lies_below_it():
    with_it = {"method.search.k": "4", "method.search.lr": "0.1", "agent.gamma": "0.9"}
    without = {"method.search": "null", "agent.gamma": "0.9"}
    assert differing([with_it, without]) == ["method.search"]
    assert differing([with_it, with_it | {"method.search.k": "5"}, without]) == ["method.search", "method.search.k"]
    assert differing([with_it, {"agent.gamma": "0.9"}]) == ["method.search.k", "method.search.lr"]


def test_the_scripted_llm_is_marked(tmp_path):
    make_run(tmp_path, method="llm_explorer", llm=answered(1, [0.5, 0.5]))
    assert "llm_explorer-dqn (scripted LLM)" in drawn(curves(gather(select([tmp_path]))))


# --- bars and profiles ------------------------------------------------------------------------------------------------


def test_bars_show_finished_runs_alone(tmp_path):
    make_run(tmp_path, seed=0, returns=(0.0, 4.0))
    make_run(tmp_path, seed=1, returns=(0.0, 8.0))
    make_run(tmp_path, seed=2, returns=(0.0, 100.0), status="INTERRUPTED")
    axes = bars(gather(select([tmp_path]))).axes[0]
    assert [bar.get_height() for bar in axes.patches] == [6.0]


def test_a_profile_counts_runs_above_a_threshold(tmp_path):
    make_run(tmp_path, seed=0, returns=(0.0, 2.5))
    make_run(tmp_path, seed=1, returns=(0.0, 4.5))  # the best: 1; the other one is (2.5 - 0.5) / (4.5 - 0.5) = 0.5
    figure = profile(gather(select([tmp_path])))
    line = drawn(figure)["vanilla-dqn"]
    assert [float(np.interp(x, *line.T)) for x in (0.1, 0.4, 0.6, 0.9)] == [1.0, 1.0, 0.5, 0.5]
    assert "0: random policy, 1: best run here" in figure.axes[0].get_xlabel()


def test_atari_is_human_normalised(tmp_path):
    make_run(tmp_path, env="atari/freeway", returns=(0.0, 29.6))  # a human's score there; a random policy's is 0
    figure = profile(gather(select([tmp_path])))
    line = drawn(figure)["vanilla-dqn"]
    assert [float(np.interp(x, *line.T)) for x in (0.97, 1.03)] == [1.0, 0.0]
    assert "1: human" in figure.axes[0].get_xlabel()


def test_a_profile_needs_shared_tasks(tmp_path):
    make_run(tmp_path, method="a")
    make_run(tmp_path, method="b", env="classic/pendulum")
    with pytest.raises(ConfigError, match="same tasks"):
        profile(gather(select([tmp_path])))


# --- exploration ------------------------------------------------------------------------------------------------------


def test_each_vector_counts_from_the_end_of_its_episode(tmp_path):
    llm = [*answered(2, [0.9, 0.1]), *answered(4, None), *answered(99, [0.0, 1.0])]  # 99: yet to be made again
    make_run(tmp_path, method="llm_explorer", llm=llm)
    (record,) = select([tmp_path])
    steps, vectors = over_training(record)
    assert steps.tolist() == [0, 20, 40]
    assert vectors.tolist() == [[0.5, 0.5], [0.9, 0.1], [0.5, 0.5]]  # uniform first, and after a failure
    told = refreshes(record)
    assert [(r.episode, r.episode_return, r.episode_text, r.description) for r in told] == [
        (2, 2.0, "return 2", "described 2"),
        (4, 4.0, "return 4", "described 4"),
    ]
    assert told[1].rejected == ["no_json: x"] and told[1].vector is None


def test_exploration_names_the_actions(tmp_path):
    make_run(tmp_path, method="llm_explorer", llm=answered(2, [0.9, 0.1]))
    axes = exploration(gather(select([tmp_path]))).axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["0 left", "1 right"]
    assert axes.get_ylabel() == "probability of exploring"


def test_a_bias_is_drawn_as_lines(tmp_path):
    make_run(tmp_path, method="llm_explorer", agent="td3", llm=answered(5, [0.2, -0.1], name="bias"))
    axes = exploration(gather(select([tmp_path]))).axes[0]
    assert axes.get_lines()[0].get_xydata().tolist() == [[0, 0], [50, 0.2], [200, 0.2]]


def test_runs_without_an_llm_have_no_such_plot(tmp_path):
    make_run(tmp_path)
    with pytest.raises(ConfigError, match="llm_explorer"):
        exploration(gather(select([tmp_path])))


# --- source and augmented state ---------------------------------------------------------------------------------------


SHEET = ["cosine of the angle (no unit)", "sine of the angle, positive: left (no unit)", "speed (rad/s)"]
PROGRAMS = {  # index -> what became of it
    "0/0/0": {"features": 1, "ignored": [], "score": 1.0, "lipschitz": [9.0, 8.0, 7.0, 6.0]},
    "0/1/1": {"features": 2, "ignored": [4], "score": 5.0, "lipschitz": [1.0, 2.0, 3.0, 4.0, 5.0]},
}


def make_searched(outputs, search="artifacts/lesr/0a1b", env="classic/pendulum", **options):
    """A finished run of LESR's, whose search trained both PROGRAMS and had one rejected."""
    call = {"kind": "call", "purpose": "lesr.sample", "messages": [], "answer": "", "served_model": "scripted",
            "model": "scripted", "prompt_tokens": 0, "completion_tokens": 0, "usd": 0.0}  # fmt: skip
    rows = []
    for index, facts in PROGRAMS.items():
        event = {"kind": "event", "purpose": "lesr.sample", "index": index}
        accepted = {"event": "accepted", "features": facts["features"], "ignored": facts["ignored"]}
        trained = {"event": "trained", "failed": "", "score": facts["score"], "lipschitz": facts["lipschitz"]}
        rows += [call | {"index": index}, event | accepted, event | trained]
    rejected = {"event": "rejected", "reason": "syntax", "detail": "x"}
    rows += [call | {"index": "0/2/2"}, {"kind": "event", "purpose": "lesr.sample", "index": "0/2/2"} | rejected]
    path = make_run(outputs, method="lesr", agent="td3", env=env, llm=rows, **options)
    config = read_json(path / "config.json")
    config |= {"env": {"task": {"observation": SHEET}}, "method": {"search": {"lipschitz": "episode"}}}
    write_json(path / "config.json", config)
    result = read_json(path / "result.json")
    write_json(path / "result.json", result | {"lesr": {"chosen": "0/1/1", "search": search}})
    return path


def test_the_chosen_programs_constants_stand_by_dimension_source_first(tmp_path):
    make_searched(tmp_path)
    figure = lipschitz(gather(select([tmp_path])))
    axes = figure.axes[0]
    kinds = {c.get_label(): [(bar.get_y() + 0.35, bar.get_width()) for bar in c] for c in axes.containers}
    assert kinds == {
        "source dimension": [(0, 1), (1, 2), (2, 3)],
        "added feature": [(3, 4)],
        "added feature that the intrinsic reward ignores": [(4, 5)],
    }
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names == ["cosine of the angle  0", "sine of the angle  1", "speed  2", "added  3", "added  4"]
    (other,) = axes.get_lines()  # the program that was not chosen, its source dimensions alone
    assert other.get_xydata().tolist() == [[9, 0], [8, 1], [7, 2]]
    title = axes.get_title(loc="left").replace("\u00a0", " ")
    assert title == "classic/pendulum · search 0a1b (scripted LLM) · program 0/1/1, score 5.0"
    assert "of the reward" in axes.get_xlabel()


def test_a_search_that_runs_share_is_drawn_once(tmp_path):
    for seed, search in ((0, "lesr/0a1b"), (1, "lesr/0a1b"), (2, "lesr/2c3d")):
        make_searched(tmp_path, search, seed=seed)
    titles = [axes.get_title(loc="left") for axes in lipschitz(gather(select([tmp_path]))).axes]
    assert ["0a1b" in titles[0], "2c3d" in titles[1]] == [True, True] and len(titles) == 2


def test_runs_without_a_search_have_no_constants(tmp_path):
    make_run(tmp_path)
    with pytest.raises(ConfigError, match="method=lesr"):
        lipschitz(gather(select([tmp_path])))


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_writes_png_and_pdf(llmrl, tmp_path):
    make_run(tmp_path / "outputs", method="llm_explorer", llm=answered(1, [0.2, 0.8]))
    make_searched(tmp_path / "outputs", study="lesr", env="classic/cart_pole")
    done = llmrl("plot", "outputs/main", "outputs/lesr")
    assert done.code == 0, done.err
    names = {path.name for path in (tmp_path / "outputs/main/plots").iterdir()}
    drawn = ("bars", "curves", "exploration", "lipschitz", "profile")  # other papers' figures need their runs …
    assert "eureka" not in done.out  # … and that they are not there goes without saying
    assert names == {f"{kind}.{ending}" for kind in drawn for ending in ("png", "pdf")}
    assert (tmp_path / "outputs/main/plots/curves.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "outputs/main/plots/curves.pdf").read_bytes().startswith(b"%PDF")


def test_the_command_says_what_it_cannot_draw(llmrl, tmp_path):
    path = make_run(tmp_path / "outputs")
    done = llmrl("plot", "outputs", "--kind", "exploration", "--out", "x")
    assert done.code == 2 and "method=llm_explorer" in done.err and not (tmp_path / "x").exists()
    nothing = llmrl("plot", "outputs/nothing")
    assert nothing.code == 2 and "there is no directory outputs/nothing" in nothing.err
    shutil.rmtree(path)
    assert llmrl("plot", "outputs").code == 2


def test_the_command_names_damaged_runs(llmrl, tmp_path):
    make_run(tmp_path / "outputs", seed=0)
    (make_run(tmp_path / "outputs", seed=1) / "metrics.jsonl").unlink()
    done = llmrl("plot", "outputs", "--kind", "bars")
    assert done.code == 0 and "s1-00000001/metrics.jsonl: is missing" in done.err


def test_the_scores_that_the_command_knows_are_all():
    from llmrl.commands import plot

    assert set(plot.SCORES) == set(SCORES)


def test_config_and_identity_stay_untouched(tmp_path):
    path = make_run(tmp_path)
    before = read_json(path / "config.json"), sorted(p.name for p in path.iterdir())
    save(curves(gather(select([tmp_path]))), tmp_path / "plots", "curves")
    assert before == (read_json(path / "config.json"), sorted(p.name for p in path.iterdir()))

"""A run's record holds its processor, and whatever merges runs of several says so, as it does for code."""

import json

from command_line import in_process  # noqa: F401 (the fixture llmrl)
from lab_tables import cells_of, make_run, written_lab  # noqa: F401 (the fixture lab)
from made_runs import make_run as made_by_hand

from llmrl.report.figures.curves import curves
from llmrl.report.figures.table_curves import curves as table_curves
from llmrl.report.page.write import write
from llmrl.report.store.groups import gather, select
from llmrl.report.store.loading import load
from llmrl.report.tables import grid, render
from llmrl.report.tables.fill import fill
from llmrl.runs.files import read_json, write_json
from llmrl.runs.identity import RunDirectory
from llmrl.runs.processor import processor, processor_name

INTEL = {"processor": "Intel Xeon", "simd": "avx2 avx512f torch AVX512"}
AMD = {"processor": "AMD EPYC", "simd": "avx2 torch AVX2"}


def test_model_and_vector_instructions_are_read(tmp_path):
    file = tmp_path / "cpuinfo"
    cpu = "processor : {}\nmodel name : Some CPU\nflags : fpu sse2 avx2 avx512f amx_tile fma\n"
    file.write_text("\n".join(map(cpu.format, range(2))))
    found = processor(file)
    assert found["processor"] == "Some CPU" and found["simd"].startswith("amx_tile avx2 avx512f fma torch ")
    file.write_text("processor : 0\nFeatures : fp asimd sve\nCPU implementer : 0x41\n")
    assert processor(file)["simd"].startswith("asimd sve torch ")
    assert processor(tmp_path / "none")["processor"]


def test_instructions_tell_two_processors_of_one_name_apart():
    assert processor_name(INTEL) != processor_name(INTEL | {"simd": "avx2 torch AVX2"})
    assert processor_name({}) is None


def test_going_on_with_another_processor_is_told_but_not_where_the_record_is_older(tmp_path):
    run = RunDirectory(tmp_path)
    assert run.record_start({"device": "cpu"}) == []
    assert run.record_start({"device": "cpu"} | INTEL) == []
    assert "processor Intel Xeon -> AMD EPYC" in run.record_start({"device": "cpu"} | AMD)
    assert [start.get("processor") for start in read_json(tmp_path / "versions.json")["starts"]] == [
        None, "Intel Xeon", "AMD EPYC"]  # fmt: skip


def made_on(path, cpu):
    versions = read_json(path / "versions.json")
    versions["starts"][-1] |= cpu
    write_json(path / "versions.json", versions)


def test_a_table_marks_a_cell_that_merges_runs_of_two_processors(lab):
    table = lab()
    cells = cells_of(table)
    for number, cell in enumerate(cells[:2]):
        for run in cell.runs:
            made_on(make_run(run), AMD if number and run.seed == 2 else INTEL)
    found = grid.find(grid.runs_of(cells), load(cells[0].runs[0].outputs))
    made = fill(table, "lab/small", cells, found)
    assert [cell.marks for cell in made.cells[:2]] == ["", "*"]
    assert any(sentence.startswith("* runs of different processors") for sentence in made.caption)
    assert any("AMD EPYC, AVX2" in sentence and "Intel Xeon, AVX512" in sentence for sentence in made.caption)
    assert ",1," in render.as_csv(made).splitlines()[2]
    (legend,) = table_curves(table, None, cells, found).legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "DQN, n\u00a0=\u00a00 to 3", "LLM, n\u00a0=\u00a00 to 3 (different processors)"]  # fmt: skip


def test_plots_page_and_status_say_it_too(llmrl, tmp_path):
    for seed, cpu in enumerate((INTEL, INTEL, AMD)):
        made_on(made_by_hand(tmp_path, seed=seed), cpu)
    groups = gather(select([tmp_path]))
    (label, *_) = [text.get_text() for text in curves(groups).legends[0].get_texts()]
    assert label == "vanilla-dqn, n\u00a0=\u00a03 (different processors)"
    html = write(select([tmp_path]), tmp_path / "report.html", "study").read_text()
    assert "mixes runs of different processors: AMD EPYC" in html
    assert "runs of different processors: Intel Xeon" in llmrl("status", str(tmp_path)).out


def test_a_run_records_it(llmrl_run, tmp_path):
    from conftest import CART_POLE, only_run

    assert llmrl_run(*CART_POLE).code == 0
    (start,) = json.loads((only_run(tmp_path / "outputs") / "versions.json").read_text())["starts"]
    assert start["processor"] and "torch " in start["simd"]

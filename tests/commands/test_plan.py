"""`llmrl plan`: how each run of a grid stands, what the rest will cost, and making what is missing."""

import os
import signal
import socket
import sys

import pytest
from command_line import in_process  # noqa: F401 (the fixture llmrl)
from conftest import ROOT, Process, only_run, run_directories, status
from lab_tables import cells_of, make_run, written_lab  # noqa: F401 (the fixture lab)

from llmrl.commands.plan import jobs_of
from llmrl.llm.local.weights import PINNED
from llmrl.report.plan import executor
from llmrl.report.plan.executor import Job, execute
from llmrl.report.plan.forecast import Forecast, shipped_rates
from llmrl.report.store.loading import load
from llmrl.report.tables import grid


def states(out):
    """{(row, column, seed): state} of what the command printed."""
    rows = [line.split() for line in out.splitlines() if line.startswith(("  CartPole", "  Acrobot"))]
    return {(row[0], row[1], row[2]): row[3] for row in rows}


def test_it_lists_the_tables_and_what_they_are(llmrl, lab):
    lab()
    done = llmrl("plan")
    assert done.code == 0 and "lab/small" in done.out and "DQN and LLM-Explorer" in done.out
    assert "llm_explorer/m_and_k" in done.out
    of_a_paper = llmrl("plan", "lab")
    assert of_a_paper.code == 2 and "`lab` has several tables: lab/small" in of_a_paper.err


def test_every_run_is_listed_with_its_state(llmrl, lab):
    cells = cells_of(lab())
    make_run(cells[0].runs[0])
    make_run(cells[0].runs[1], status="INTERRUPTED", study="elsewhere")
    make_run(cells[0].runs[2], status="FAILED")
    broken = make_run(cells[1].runs[0])
    (broken / "config.json").write_text("{")
    make_run(cells[1].runs[1], status="RUNNING")  # whose process is gone
    done = llmrl("plan", "lab/small")
    found = states(done.out)
    assert done.code == 0 and len(found) == 12
    assert [found["CartPole", "DQN", f"s{seed}"] for seed in range(3)] == ["done", "partial", "failed"]
    assert [found["CartPole", "LLM", f"s{seed}"] for seed in range(3)] == ["damaged", "partial", "missing"]
    assert "12 runs: 1 damaged, 1 done, 1 failed, 7 missing, 2 partial." in done.out
    assert "outputs/elsewhere/vanilla-dqn" in done.out


def test_rows_columns_seeds_and_overrides_are_chosen(llmrl, lab):
    lab()
    part = ["--row", "CartPole", "--column", "LLM", "--seeds", "4-5", "--set", "budget.env_steps=40"]
    done = llmrl("plan", "lab/small", *part)
    assert states(done.out).keys() == {("CartPole", "LLM", "s4"), ("CartPole", "LLM", "s5")}
    assert "Left: 80 env_steps in 2 runs." in done.out


def test_only_the_seed_differs_between_the_runs_of_a_cell(lab):
    from llmrl.commands.cells import identify

    table = lab()
    cell = cells_of(table)[1]
    alone = [identify([*run.overrides, f"seed={run.seed}"], [run.seed])[0] for run in cell.runs]
    assert [run.id for run in cell.runs] == [run.id for run in alone]
    assert len({run.id for run in cell.runs}) == 3


def forecast(cells):
    wanted = grid.runs_of(cells)
    records = load(wanted[0].outputs)
    return Forecast(wanted, grid.find(wanted, records), records)


def test_hours_come_from_runs_like_these_on_this_machine(lab):
    cells = cells_of(lab(rows={"CartPole": []}))[:1]
    make_run(cells[0].runs[0], env_steps_per_s=0.01, host="another")
    text = forecast(cells).text()
    rate = shipped_rates()["dqn", "classic", "env_steps", "cpu"]
    assert f"Time: {120 / rate / 3600:.2g} h" in text and "docs/speed.md" in text
    make_run(cells[0].runs[1], status="INTERRUPTED", env_steps_per_s=0.5, host=socket.gethostname())
    told = forecast(cells).text()
    assert "Left: 90 env_steps in 2 runs." in told  # half of one, and a whole one
    assert f"Time: {90 / 0.5 / 3600:.2f} h" in told


def test_dollars_come_from_runs_with_the_same_model(lab):
    cells = cells_of(lab(rows={"CartPole": []}), extra=["llm=gpt-4o-mini"])
    text = forecast(cells).text()
    assert f"LLM:  {3 * 1.3 * 60 / 1_000_000:.2g} usd" in text and "the paper's own cost of a run" in text
    usage = {"model": "gpt-4o-mini", "calls": 3, "usd": 1.5, "calls_without_price": 0}
    make_run(cells[1].runs[0], llm=usage)
    assert "LLM:  3.00 usd (" in forecast(cells).text()
    other = cells_of(lab(rows={"CartPole": []}), extra=["llm=gpt-4o"])[1:]
    assert "the paper's own cost" in forecast(other).text()


@pytest.mark.parametrize("llm", [
    ["llm=ollama", "llm.model=qwen"], ["llm=vllm", "llm.model=qwen"],
    ["llm=local", f"llm.weights={next(iter(PINNED))}"],
])  # fmt: skip
def test_tokens_of_ones_own_machine_cost_nothing(lab, llm):
    cells = cells_of(lab(rows={"CartPole": []}), extra=llm)
    assert "LLM:  0.00 usd (from runs with the same language model)." in forecast(cells).text()


LESR = ["experiment=lesr/hopper", "llm=gpt-4o-mini", "study=lab"]


def test_what_runs_share_is_in_every_total_once(lab):
    cells = cells_of(lab(rows={"Hopper": []}, base=LESR, columns={"LESR": []}))
    told = forecast(cells).text()
    assert "Left: 180,000 env_steps in 3 runs, and 180,000 env_steps of what they share (1)." in told
    rate = shipped_rates()["td3", "mujoco", "env_steps", "cpu"]
    assert f"Time: {360_000 / rate / 3600:.2f} h" in told and "LLM:  unknown for 1 of 4" in told
    usage = {"model": "gpt-4o-mini", "calls": 12, "usd": 1.5, "calls_without_price": 0}
    make_run(cells[0].runs[0], llm=usage, env_steps_per_s=50.0, host=socket.gethostname())
    told = forecast(cells).text()  # the search itself is not there any more: it is made, and paid, once
    assert "Left: 120,000 env_steps in 2 runs, and 180,000 env_steps of what they share (1)." in told
    assert f"Time: {300_000 / 50 / 3600:.2f} h (" in told and "LLM:  1.50 usd (" in told


def test_what_is_measured_in_updates_or_rollouts_says_so(llmrl, lab):
    base = ["experiment=kalm/clevr_quick", "study=lab"]
    cells = cells_of(lab(rows={"rephrase": []}, base=base, columns={"BC": []}))
    told = forecast(cells).text()
    assert ("Left: 18,000 updates in 3 runs, and 4,800 rollouts and 600 updates of what they share (3).") in told
    out = llmrl("plan", "lab/small").out
    assert "0 of 6,000 updates" in out and "4,000 rollouts" in out and "600 updates" in out


def test_a_price_that_nobody_knows_is_no_price_for_the_forecast(lab):
    cells = cells_of(lab(rows={"CartPole": []}), extra=["llm=gpt-4o-mini"])
    usage = {"model": "gpt-4o-mini", "calls": 3, "usd": 0.0, "calls_without_price": 3}  # as older runs have it
    make_run(cells[1].runs[0], llm=usage)
    assert "LLM:  unknown for 2 of 5 runs and stages" in forecast(cells).text()


def test_a_run_that_was_begun_goes_on_in_its_study(lab):
    cells = cells_of(lab(rows={"CartPole": []}))
    run = cells[0].runs[0]
    make_run(run, status="INTERRUPTED", study="elsewhere")
    found = grid.find([run], load(run.outputs))
    (job,) = jobs_of([run], found)
    assert "study=elsewhere" in job.argv and "study=lab" not in job.argv
    (job,) = jobs_of([run], {})
    assert "study=lab" in job.argv and "-m" not in job.argv[3:]


def of_jobs(jobs):
    """(seeds, studies, whether it is stacked, how many runs) of each process."""
    found = []
    for job in jobs:
        args = job.argv[4:]
        seeds, studies = ([arg.partition("=")[2] for arg in args if arg.startswith(f"{k}=")] for k in ("seed", "study"))
        assert ("-m" in args) == ("compute.stack=true" in args) == (job.runs > 1)
        found.append((*seeds, *studies, job.runs))
    return found


def test_on_a_gpu_the_seeds_of_a_cell_are_one_process(lab):
    cells = cells_of(lab(rows={"CartPole": []}), extra=["compute.device=cuda"])
    runs = grid.runs_of(cells)
    jobs = jobs_of(runs, {})
    assert of_jobs(jobs) == [("0,1,2", "lab", 3)] * 2 and all(job.gpu for job in jobs)
    assert jobs[0].name.startswith("llmrl run -m ") and "method=llm_explorer" in jobs[1].argv
    assert jobs[0].argv[-1] == "log.progress=false"
    by_hand = [*jobs[0].argv[4:], "compute.device=cpu"]
    assert [arg for arg in by_hand if "seed=" in arg] == ["seed=0,1,2"]


def test_runs_that_were_begun_in_different_studies_are_not(lab):
    cells = cells_of(lab(rows={"CartPole": []}, columns={"DQN": []}, seeds=[*range(6)]), extra=["compute.device=cuda"])
    runs = grid.runs_of(cells)
    for run, study in zip(runs, ("elsewhere", "elsewhere", "it's")):
        make_run(run, status="INTERRUPTED", study=study)
    found = grid.find(runs, load(runs[0].outputs))
    assert of_jobs(jobs_of(runs, found)) == [("0,1", "elsewhere", 2), ("2", "'it\\'s'", 1), ("3,4,5", "lab", 3)]
    assert of_jobs(jobs_of(runs[:1], found)) == [("0", "elsewhere", 1)]  # one alone needs no sweep


@pytest.mark.parametrize("extra, runs", [
    ([], 1),  # on a CPU
    (["compute.device=cuda", "compute.stack=false"], 1),
    (["compute.stack=true"], 3),
    (["compute.device=cuda", "agent.noisy=true"], 1),
    (["compute.device=cuda", "agent=rainbow"], 1),
    (["compute.device=cuda", "env=atari/freeway"], 1),
    (["compute.device=cuda", "env=classic/pendulum"], 1),  # DQN cannot act there; the runs say so
])  # fmt: skip
def test_where_it_cannot_be_or_nobody_wants_it_each_run_is_a_process(lab, extra, runs):
    base = [text for text in lab().base if not ("agent=rainbow" in extra and text.startswith("agent."))]
    cells = cells_of(lab(rows={"CartPole": []}, columns={"DQN": ["method=vanilla"]}, base=base), extra=extra)
    assert [job.runs for job in jobs_of(grid.runs_of(cells), {})] == [runs] * (3 // runs)


@pytest.mark.parametrize("args, told", [
    (["lab/smal"], "Did you mean `lab/small`?"),
    (["lab/small", "--row", "Acrobat"], "Did you mean `Acrobot`?"),
    (["lab/small", "-j", "0"], "-j 0"),
    (["lab/small", "--seeds", "a"], "0-4"),
])  # fmt: skip
def test_bad_input_ends_with_2(llmrl, lab, args, told):
    lab()
    done = llmrl("plan", *args)
    assert done.code == 2 and told in done.err


# --- the executor -----------------------------------------------------------------------------------------------------


def job(code, name="job", gpu=False):
    return Job(name, (sys.executable, "-c", code), gpu)


def outcomes(ended):
    return {end.job.name: (end.outcome, end.last_line) for end in ended}


def test_a_run_that_fails_stops_no_other():
    heard = []
    jobs = [job("raise SystemExit('no')", "bad"), job("raise SystemExit(75)", "paused"), job("print('fine')", "good")]
    ended = execute(jobs, 1, [], lambda end: heard.append(end.job.name))
    assert outcomes(ended) == {"bad": ("failed", "no"), "paused": ("paused", "exit code 75"), "good": ("done", "fine")}
    assert sorted(heard) == ["bad", "good", "paused"]


def test_one_thread_each_and_gpus_in_turn(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    monkeypatch.setenv("OMP_NUM_THREADS", "9")
    show = "import os; print(os.environ['OMP_NUM_THREADS'], os.environ['CUDA_VISIBLE_DEVICES'])"
    assert executor.gpus() == ["4", "7"]
    (cpu,) = execute([job(show)], 1, executor.gpus(), lambda end: None)
    assert cpu.last_line == "1 4,7"
    one = Job("one", (sys.executable, "-c", show), gpu=True)
    assert {end.last_line for end in execute([one], 1, executor.gpus(), lambda end: None)} == {"1 4"}


def test_two_at_a_time_get_different_gpus(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    os.mkfifo(a), os.mkfifo(b)
    show = (
        "import os; print(os.environ['CUDA_VISIBLE_DEVICES'])"  # each waits for the other: a fifo opens from two ends
    )
    first = job(f"open('{a}', 'w').close(); open('{b}').close(); {show}", "first", gpu=True)
    second = job(f"open('{a}').close(); open('{b}', 'w').close(); {show}", "second", gpu=True)
    ended = execute([first, second], 2, ["0", "1"], lambda end: None)
    assert sorted(end.last_line for end in ended) == ["0", "1"]


def test_a_missing_driver_means_no_gpu(monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert executor.gpus() == []


# --- real runs --------------------------------------------------------------------------------------------------------


PART = ["--row", "CartPole", "--column", "DQN", "--run"]


def plan(tmp_path):
    return Process(["lab/small", *PART], tmp_path, command="plan")


def test_it_makes_what_is_missing_and_then_has_nothing_to_do(llmrl, lab, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # of the runs, which are processes
    lab(seeds=[0])
    first = llmrl("plan", "lab/small", *PART)
    assert first.code == 0, first.err
    assert status(only_run(tmp_path / "outputs")) == "DONE"
    second = llmrl("plan", "lab/small", *PART)
    assert second.code == 0 and "Nothing to run." in second.out, second.err
    (only_run(tmp_path / "outputs") / "config.json").write_text("{")
    third = llmrl("plan", "lab/small", *PART)
    assert third.code == 1 and "Left alone, damaged: " in third.err


def test_stacked_seeds_are_made_and_counted(llmrl, lab, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    lab(seeds=[0, 1])
    done = llmrl("plan", "lab/small", *PART, "--set", "compute.stack=true")
    assert done.code == 0 and "Running 2 runs in 1 process, 1 at a time." in done.out, done.out + done.err
    assert [status(path) for path in run_directories(tmp_path / "outputs")] == ["DONE", "DONE"]


def test_ctrl_c_leaves_a_checkpoint_and_the_same_command_goes_on(llmrl, lab, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    lab(seeds=[0, 1], base=[*lab().base, "budget.env_steps=1500", "eval.every=1500"])
    begun = plan(tmp_path)
    outputs = tmp_path / "outputs"
    assert begun.until(lambda: any((path / "metrics.jsonl").exists() and (path / "metrics.jsonl").stat().st_size
                                   for path in run_directories(outputs))), begun.end()  # fmt: skip
    done = begun.send(signal.SIGINT, timeout=60)
    assert done.code == 130 and "The same command goes on" in done.err, done.out + done.err
    (one,) = run_directories(outputs)  # the second was not begun
    assert status(one) == "INTERRUPTED" and list((one / "checkpoint").iterdir())
    again = llmrl("plan", "lab/small", *PART, "-j", "2")
    assert again.code == 0 and "2 done" in again.out, again.out + again.err
    assert [status(path) for path in run_directories(outputs)] == ["DONE", "DONE"]

"""llmrl plan [<paper>/<name>] [--run [-j N] | --submit Q] [--study S] [--seeds 0-4] [--row R] [--column C] [--set k=v]

Every run of a table's grid: done, partial, running, queued, failed or missing, and what the rest will cost in
env_steps, hours and dollars, as far as runs on this machine tell. Runs are found in whatever study they were made.
Without a name it lists the tables.

  --submit slurm   or ray: hand what is missing in to a cluster, and return (docs/clusters.md); keys of the launcher
                   are set as --set hydra.launcher.time=2:00:00
  --run            make what is missing, one process per run; after ctrl-C the same command goes on. With
                   compute.device=cuda the seeds of a cell are one process where their updates can be made as one
                   (compute.stack; --set compute.stack=false: a process each, --set compute.stack=true: on a CPU too)
  -j N             so many processes side by side (1 if not given); GPUs in turn where compute.device=cuda
  --study S        the study of new runs; a run that was begun goes on where it is
  --seeds 0,1,4    or 0-4: other seeds than the table's
  --row, --column  only these, by their labels; may be given several times
  --set key=value  a further override for every run, such as budget=short or llm=scripted; may be given several times

Exit codes: 0 all is well, 1 a run failed or is damaged, 2 the command is invalid, 75 a run is paused or alive
elsewhere, 130 stopped by ctrl-C.
"""

import re
import shlex
import sys
from collections import Counter
from collections.abc import Sequence

from llmrl.checks import ConfigError
from llmrl.commands.cells import arguments, cells_of, table_of
from llmrl.commands.columns import columns
from llmrl.conf_files import group_file, options

OK, FAILURE, BAD_INPUT, TRY_LATER, CTRL_C = 0, 1, 2, 75, 130


def main(args: list[str]) -> int:
    parser = arguments("plan")
    parser.add_argument("--run", action="store_true")
    parser.add_argument("-j", type=int, default=1)
    parser.add_argument("--submit", metavar="LAUNCHER")
    parser.add_argument("--study")
    given = parser.parse_args(args)
    launching = [text for text in given.set if text.startswith("hydra.")]
    given.set = [text for text in given.set if text not in launching]
    try:
        if given.run and given.submit:
            raise ConfigError("--run makes the runs on this machine, --submit on a cluster: only one of them")
        if launching and not given.submit:
            raise ConfigError(f"--set {launching[0]}: goes with --submit")
        if given.j < 1:
            raise ConfigError(f"-j {given.j}: at least 1 process is needed")
        if given.name is None:
            return _list()
        return _plan(given, launching)
    except ConfigError as error:
        print(f"llmrl plan: {error}", file=sys.stderr)
        return BAD_INPUT


def _list() -> int:
    from llmrl.report.tables.definition import read

    files = {name: group_file("table", name) for name in options("table")}
    print("Tables. `llmrl plan <name>` shows a table's runs, `llmrl table <name>` the table.")
    print(columns([(name, read(file).title) for name, file in files.items() if file]))
    return 0


def _plan(given, launching: Sequence[str]) -> int:
    from llmrl.report.plan.forecast import Forecast
    from llmrl.report.store.loading import load
    from llmrl.report.tables import grid

    table = table_of(given.name)
    cells = cells_of(table, given, *_of_study(given.study))
    runs = grid.runs_of(cells)
    records = load(runs[0].outputs)
    found = grid.find(runs, records)
    print(f"{given.name}: {table.title}\n")
    print(listing(cells, found))
    stages = grid.stages_of(runs)
    if stages:
        print(f"\nShared by them:\n{stage_listing(stages)}")
    print()
    forecast = Forecast(runs, found, records)
    print(forecast.text())
    if not (given.run or given.submit):
        return OK
    sound = _undamaged(runs, found)
    if given.submit:
        from llmrl.clusters.commands import submit

        launching = [f"hydra/launcher={given.submit}", *launching]
        code = submit(_works(stages, sound, found), launching, runs[0].outputs)
    else:
        code = _make(stages, given.j) or _run(sound, found, given.j, forecast)
    return code or (OK if len(sound) == len(runs) else FAILURE)


def listing(cells, found) -> str:
    """A line per run of every cell; a run that two columns share stands at the first."""
    from llmrl.report.tables import grid

    seen, lines = set(), []
    for cell in cells:
        for run in cell.runs:
            record = found.get(run.key)
            state = grid.standing(record)
            length = f"{record.steps if record else 0:,} of {run.steps:,} {run.unit}"
            place = record.path if record else run.path
            if run.key not in seen:
                lines.append((cell.row, cell.column, f"s{run.seed}", state, length, place))
            seen.add(run.key)
    counts = Counter(line[3] for line in lines)
    head = ("row", "column", "seed", "state", "length", "directory")
    states = ", ".join(f"{n} {state}" for state, n in sorted(counts.items()))
    return columns([head, *lines], right=(4,)) + f"\n\n{len(lines)} runs: {states}."


def stage_listing(stages) -> str:
    from llmrl.report.tables import grid

    lines = [(grid.stage_standing(stage), f"{stage.steps:,} {stage.unit}" if stage.steps else "", stage.path)
             for stage in stages]  # fmt: skip
    return columns(lines, right=(1,))


def _make(stages: Sequence, parallel: int) -> int:
    """Makes what the runs share, first; otherwise they would all wait for it."""
    from llmrl.report.plan import executor
    from llmrl.report.tables import grid
    from llmrl.runs.children import prepare_node

    todo = [stage for stage in stages if grid.stage_standing(stage) not in (grid.DONE_RUN, grid.RUNNING_RUN)]
    for stage in todo:
        prepare_node(stage.path, stage.node)
    jobs = [executor.Job(f"llmrl run --from {stage.path}", (sys.executable, "-m", "llmrl", "run", "--from",
                                                            str(stage.path)), parts=(_stage_part(stage),))
            for stage in todo]  # fmt: skip
    return _carry_out(jobs, parallel) if jobs else 0


def _stage_part(stage):
    from llmrl.report.plan.executor import Part

    return Part("/".join(stage.path.parts[-2:]), stage.path, stage.steps, stage.unit)


def _run(runs: Sequence, found: dict, parallel: int, forecast) -> int:
    todo = _todo(runs, found)
    if not todo:
        print("\nNothing to run.")
        return 0
    return _carry_out(jobs_of(todo, found, forecast), parallel)


def _todo(runs: Sequence, found: dict) -> list:
    """Those that are neither done nor running."""
    from llmrl.report.tables import grid

    kept = (grid.MISSING, grid.PARTIAL, grid.FAILED_RUN, grid.QUEUED_RUN)
    return [run for run in runs if grid.standing(found.get(run.key)) in kept]


def _undamaged(runs: Sequence, found: dict) -> list:
    """Damaged ones are named and left alone."""
    from llmrl.report.tables import grid

    sound = []
    for run in runs:
        if grid.standing(found.get(run.key)) != grid.DAMAGED:
            sound.append(run)
            continue
        print(f"Left alone, damaged: {found[run.key].damage[0]}. Remove it, or make it anew with rerun=true.",
              file=sys.stderr)  # fmt: skip
    return sound


def _works(stages: Sequence, runs: Sequence, found: dict) -> list:
    """What is submitted of the runs, each in the study in which it was begun, behind what it builds on."""
    from llmrl.clusters.submit import Work

    works = [Work(stage.path, stage.node, stage.identity, stage.after, shared=True) for stage in stages]
    for run in runs:
        place = found[run.key].path if run.key in found else run.path
        after = tuple(stage.path for stage in run.stages)
        works.append(Work(place, dict(run.node) | {"seed": run.seed}, run.identity, after))
    known = {work.path: work for work in works}  # an artifact may be a stage of another row
    return list(known.values())


def _carry_out(jobs: list, parallel: int) -> int:
    """The exit code of all of them together."""
    from llmrl.report.plan import executor
    from llmrl.report.plan.progress import GridProgress

    n = sum(job.runs for job in jobs)
    processes = "1 process" if len(jobs) == 1 else f"{len(jobs)} processes"
    what = f"{n} runs in {processes}" if n > len(jobs) else str(n)
    print(f"\nRunning {what}, {parallel} at a time.", flush=True)
    with GridProgress(jobs, parallel) as progress:
        gpus = executor.gpus() if any(job.gpu for job in jobs) else []
        ended = executor.execute(jobs, parallel, gpus, progress.ended, progress.begun, progress.tick)
    outcomes = Counter(end.outcome for end in ended)
    if len(ended) < len(jobs) or outcomes[executor.STOPPED]:
        print(f"Stopped: {outcomes[executor.DONE]} of {len(jobs)} done. The same command goes on.", file=sys.stderr)
        return CTRL_C
    print(", ".join(f"{n} {outcome}" for outcome, n in sorted(outcomes.items())))
    return FAILURE if outcomes[executor.FAILED] else TRY_LATER if outcomes[executor.PAUSED] else 0


def jobs_of(runs: Sequence, found: dict, forecast=None) -> list:
    """The processes that make the runs, or go on with them in the studies in which they were begun: one for each, or
    for seeds that differ in nothing else where they are to be stacked."""
    from llmrl.report.tables.grid import merged

    groups: dict[tuple[str, ...], list] = {}
    for run in runs:
        record = found.get(run.key)
        groups.setdefault(merged(*run.overrides, *_of_study(record.study if record else None)), []).append(run)
    jobs = []
    for overrides, group in groups.items():
        if len(group) > 1 and to_stack(group[0], overrides):
            seeds = f"seed={','.join(str(run.seed) for run in group)}"
            jobs.append(_job(["-m", *merged(*overrides, seeds, "compute.stack=true")], group, found, forecast))
        else:
            jobs += [_job(merged(*overrides, f"seed={run.seed}"), [run], found, forecast) for run in group]
    return jobs


def _job(args: Sequence[str], runs: Sequence, found: dict, forecast):
    from llmrl.report.plan.executor import Job, Part, llmrl_run

    parts = []
    for run in runs:
        kind = (run.names["method"], run.names["agent"], run.names["env"])
        place = found[run.key].path if run.key in found else run.path
        rate = forecast.seconds_per_step(run) if forecast else None
        parts.append(Part(f"{' · '.join(kind)} · seed {run.seed}", place, run.steps, run.unit, kind, rate and 1 / rate))
    return Job(f"llmrl run {shlex.join(args)}", llmrl_run(args), runs[0].device == "cuda", len(runs), tuple(parts))


def to_stack(run, overrides: Sequence[str]) -> bool:
    """Whether seeds of this run go into one process: on a GPU, where that is many times faster, unless the user decided
    otherwise, and where it is possible. Where the environment cannot be made, the runs themselves will say so."""
    if "compute.stack=false" in overrides or (run.device == "cpu" and "compute.stack=true" not in overrides):
        return False
    from llmrl.build import check_stackable
    from llmrl.config import from_node
    from llmrl.hydra_compose import compose

    try:
        node = compose(list(overrides))
        node.pop("rerun", None)
        check_stackable(from_node(node, overrides))
    except ConfigError:
        return False
    return True


def _of_study(name: str | None) -> list[str]:
    """The override, quoted where the name is more than letters: no user has typed it as one."""
    if name is None or re.fullmatch(r"[A-Za-z_][\w/.-]*", name, re.ASCII):
        return [] if name is None else [f"study={name}"]
    from hydra.core.override_parser.types import Quote, QuotedString

    return [f"study={QuotedString(name, Quote.single).with_quotes()}"]

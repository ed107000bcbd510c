"""What `plan` and `table` share: naming a table, composing its cells, and their common arguments."""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmrl.checks import ConfigError
from llmrl.conf_files import group_file, options
from llmrl.report.tables import definition, grid
from llmrl.waiting import on

if TYPE_CHECKING:
    from llmrl.config import Config


def arguments(command: str) -> argparse.ArgumentParser:
    """The arguments that both commands take."""
    parser = argparse.ArgumentParser(f"llmrl {command}", add_help=False)
    parser.add_argument("name", nargs="?", type=lambda text: text.removeprefix("table="))  # as overrides are written
    parser.add_argument("--seeds", type=seeds)
    parser.add_argument("--row", action="append", default=[], metavar="LABEL")
    parser.add_argument("--column", action="append", default=[], metavar="LABEL")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    return parser


def seeds(text: str) -> tuple[int, ...]:
    """0,1,4 or 0-4"""
    first, dash, last = text.partition("-")
    try:
        return tuple(range(int(first), int(last) + 1)) if dash else tuple(int(seed) for seed in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"not a list of seeds: {text!r}; write 0,1,4 or 0-4") from None


def table_of(name: str) -> definition.Table:
    """conf/table/<name>.yaml. Raises ConfigError with the nearest name where there is none."""
    from llmrl.checks import nearest

    file = group_file("table", name)
    if file is None or name not in options("table"):
        if own := [table for table in options("table") if table.startswith(f"{name}/")]:
            raise ConfigError(f"`{name}` has several tables: {', '.join(own)}")
        raise ConfigError(f"there is no table `{name}`.{nearest(name, options('table'))} `llmrl plan` lists them all.")
    return definition.read(file)


def chosen(table: definition.Table, args: argparse.Namespace) -> tuple[list[str], list[str]]:
    """The rows and columns that the arguments name; all where they name none. Raises ConfigError."""
    rows = definition.chosen(table.rows, args.row, f"{args.name}: row")
    return rows, definition.chosen(table.columns, args.column, f"{args.name}: column")


def cells_of(table: definition.Table, args: argparse.Namespace, *more: str, whole: bool = True) -> list[grid.Cell]:
    """The cells that the arguments choose, composed. Raises ConfigError; `whole` is of `grid.cells`."""
    rows, columns = chosen(table, args)
    with on(f"composing {len(rows) * len(columns)} cells"):
        return grid.cells(table, rows, columns, args.seeds or table.seeds, [*args.set, *more], identify, whole=whole)


def identify(overrides: Sequence[str], seeds: Sequence[int]) -> tuple[grid.PlannedRun, ...]:
    """The runs of one cell, composed once: they differ in the seed and in what follows it. Raises ConfigError."""
    from llmrl.config import from_node, identity, method_of, run_id, run_path, shared
    from llmrl.hydra_compose import compose_seeds

    found: list[grid.PlannedRun] = []
    before: dict[str, Any] = {}
    try:
        for node in compose_seeds(list(overrides), seeds):
            node.pop("rerun", None)
            if before | {"seed": node["seed"]} != node:
                config, before = shared(from_node(node, overrides)), node
                method = method_of(config.choices["method"])
                reads = method.reads(config.method)
                stages = tuple(stage(one) for one in method.stages(config))
            seeded = shared(dataclasses.replace(config, seed=node["seed"]))
            who = identity(seeded, reads)
            steps, unit = method.work(seeded)
            found.append(grid.PlannedRun(
                overrides=tuple(overrides), outputs=Path(config.compute.outputs), path=run_path(seeded, who),
                id=run_id(who), identity=who, names={key: config.choices[key] for key in ("method", "agent", "env")},
                seed=seeded.seed, unit=unit, steps=steps, device=config.compute.device, stages=stages,
                llm=config.llm.model if "llm" in reads else None, node=node,
            ))  # fmt: skip
    except ConfigError as error:
        raise ConfigError(f"{error}\n(composing: llmrl run {' '.join(overrides)})") from None
    return tuple(found)


def stage(config: "Config") -> grid.Stage:
    """What runs share, known without running it."""
    from llmrl.config import identity, method_of, run_path
    from llmrl.runs.children import node_of

    method = method_of(config.choices["method"])
    who = identity(config, method.reads(config.method))
    after = tuple(stage(one).path for one in method.stages(config))
    asks = "llm" in method.reads(config.method)
    return grid.Stage(run_path(config, who), *method.work(config), node_of(config), who, asks, after)

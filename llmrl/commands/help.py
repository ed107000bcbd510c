"""The help texts. They read names from conf/ and nothing else, so that they stand on the screen at once."""

import importlib
import textwrap

from llmrl.conf_files import GROUPS, inner_groups, options

EXAMPLES = """\
Examples
  llmrl run                                        the quickstart: LLM-Explorer on MuJoCo's Hopper, offline, minutes
  llmrl run agent=td3 env=mujoco/half_cheetah budget=short
  llmrl run method=llm_explorer agent=dqn env=atari/freeway llm=gpt-4o-mini seed=3
  llmrl run -m agent=td3,ddpg env=mujoco/hopper 'seed=range(0,5)'       ten runs, one after the other
  llmrl run agent=td3 agent.batch_size=128 study=small_batches         any value of conf/agent/td3.yaml"""


def overview(commands: dict[str, str]) -> str:
    """`llmrl --help`: the commands."""
    lines = "\n".join(f"  {name:<12} {text}" for name, text in commands.items())
    return (
        "llmrl: runs experiments of LLM-guided reinforcement learning.\n\n"
        f"llmrl <command> …\n{lines}\n\n{EXAMPLES}\n\n"
        "llmrl <command> --help tells more."
    )


def of_command(command: str) -> str:
    """`llmrl <command> --help`"""
    if command == "run":
        return _run()
    return str(importlib.import_module(f"llmrl.commands.{command}").__doc__).strip()


def _run() -> str:
    groups = "\n".join(_group(group, text) for group, text in GROUPS.items())
    inner = "".join(f"\n  {group}={'|'.join(options(group))}" for group in inner_groups("env"))
    return f"""\
llmrl run [-m] [group=choice] [key=value] …

Trains what the command describes, in outputs/<study>/<method>-<agent>/<env>/s<seed>-<id>/. The same command is the same
run: finished, it says so; interrupted, it goes on from its checkpoint; alive elsewhere, it refuses. Without any
argument it is `llmrl run experiment=quickstart`.

Groups (a choice is a file, conf/<group>/<choice>.yaml; `llmrl list` says more of each)
{groups}

Parts of Atari environments{inner}

Keys
  seed=0            of the training
  study=default     a name for runs that belong together
  rerun=true        make a finished run anew; the old one is kept in outputs/.replaced/
  <group>.<key>=…   any value of the group's yaml, such as agent.gamma=0.98

Flags
  -m                sweep: commas and range(a,b) give several values to a key, every combination is a run.
                    With compute.stack=true runs that differ only in the seed are trained in one process, their
                    updates made as one: agent=td3|ddpg|sac|dqn, faster on a GPU
  --from <dir> …    go on with the runs in these directories, or begin them from their config.json
  hydra/launcher=slurm    hand the runs in to a cluster's queue and return (docs/clusters.md)
  --cfg job         print the composed configuration instead of running it
  --hydra-help      Hydra's own flags

{EXAMPLES}

Exit codes: 0 done, 1 failed, 2 the command asks for something wrong, 75 try again later (alive elsewhere, or paused),
128 + n stopped by signal n with a checkpoint."""


def _group(group: str, text: str) -> str:
    names = options(group)
    if group == "env":  # a line per suite
        suites = sorted({name.partition("/")[0] for name in names})
        names = [f"{s}/{{{','.join(n.partition('/')[2] for n in names if n.startswith(s + '/'))}}}" for s in suites]
        listed = "\n".join(_wrapped(name.replace(",", ", ")) for name in names)
    else:
        listed = _wrapped(", ".join(names))
    return f"  {group:<12} {text}\n{listed}"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 118, initial_indent=" " * 15, subsequent_indent=" " * 17, break_on_hyphens=False)

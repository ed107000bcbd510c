"""Policies of the pick-and-place environment without training: the sanity rows of ExploRLLM, both horizons.

Each row is the mean return with its 95 % interval over episodes, and the share of successes. `programs` is the paper's
Explore Policy; its dashed lines stand at +0.53 and -1.20. No action is left out, as in evaluation; with --neglect
hopeless ones are, as in training. The programs are those of llm=scripted, or of an artifact (--programs
outputs/artifacts/explorllm/<id>, for the horizon that they were asked for).

Usage: python scripts/explore_policy.py [--episodes 300] [--mode physics] [--horizon short] [--programs DIR] [--json]
With --json the last line is JSON: short_horizon and long_horizon are the returns of `programs`, and all rows follow.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np  # noqa: E402
import yaml  # noqa: E402

from llmrl.conf_files import conf_root  # noqa: E402
from llmrl.config import checked  # noqa: E402
from llmrl.gymnasium_ids import pick_place  # noqa: E402
from llmrl.intervals import half_width  # noqa: E402
from llmrl.llm import client  # noqa: E402
from llmrl.llm.transcript import Transcript  # noqa: E402
from llmrl.methods.explorllm import programs as explorllm_programs  # noqa: E402
from llmrl.methods.explorllm.policy import WithInfo, policy_of  # noqa: E402
from llmrl.runs.evaluate import cases, evaluate  # noqa: E402
from llmrl.runs.stop import Stop  # noqa: E402

ROWS: dict[str, dict[str, Any]] = {  # name -> policy_of's arguments, and the environment's
    "programs": {"policy": "program"},
    "programs, whole offset": {"policy": "program", "offset_scale": 2.0},
    "programs, worst picks": {"policy": "program", "affordance": "worst"},
    "worst picks, whole offset": {"policy": "program", "affordance": "worst", "offset_scale": 2.0},
    "argmax": {"policy": "argmax"},
    "centre": {"policy": "centre"},
    "random": {"policy": "random"},
    "oracle": {"policy": "oracle"},
    "programs, O alone": {"policy": "program", "letters": ["O", "O", "O"]},
    "programs, R alone": {"policy": "program", "letters": ["R", "R", "R"]},
    "programs, V alone": {"policy": "program", "letters": ["V", "V", "V"]},
    "programs, O T G": {"policy": "program", "letters": ["O", "T", "G"]},
}


def programs_for(env_config: Any) -> dict[str, Any]:
    """What llm=scripted answers for this task, checked and scored as in a run."""
    llm_config, config = (
        checked(cls, yaml.safe_load((conf_root() / file).read_text()))
        for cls, file in (
            (client.Config, "llm/scripted.yaml"),
            (explorllm_programs.Config, "method/explorllm_programs.yaml"),
        )
    )
    with tempfile.TemporaryDirectory() as folder:
        llm = client.LLM(llm_config, Transcript(Path(folder) / "llm.jsonl"), Stop())
        found = explorllm_programs.Search(config, explorllm_programs.canonical(env_config), llm).find()
        llm.close()
    return found


def row(found: dict[str, Any], episodes: int, arguments: dict[str, Any], **table: Any) -> dict[str, Any]:
    """One policy on `episodes` cases: return_mean, its 95 % interval's half width, success, length, failures.
    table: pick_place's arguments."""
    own = {key: value for key, value in arguments.items() if key == "letters"}
    env = WithInfo(pick_place(**table, **own))
    act, facts = policy_of(env=env, found=found, **{k: v for k, v in arguments.items() if k not in own})
    scores = evaluate(act, env, cases(0, "eval", episodes), max_steps=100, stop=Stop())
    env.close()
    returns = np.array(scores.returns)
    half = half_width(returns)
    return {
        "return_mean": round(float(returns.mean()), 4), "interval": None if half is None else round(half, 4),
        "success": round(float(np.mean(scores.successes["success"])), 4),
        "env_steps": round(float(np.mean(scores.lengths)), 3), "failures": facts().get("failures", {}),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=300)
    parser.add_argument("--mode", choices=("analytic", "physics"), default="analytic")
    parser.add_argument("--horizon", choices=("short", "long", "both"), default="both")
    parser.add_argument("--neglect", action="store_true")
    parser.add_argument("--rows", nargs="*", choices=ROWS, default=list(ROWS), metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--programs", type=Path, help="an artifact's directory; default: llm=scripted")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    told: dict[str, Any] = {}
    role = "train" if args.neglect else "eval"
    for horizon in ("short", "long") if args.horizon == "both" else (args.horizon,):
        config = pick_place(horizon=horizon).config
        found = explorllm_programs.read_programs(args.programs) if args.programs else programs_for(config)
        rows = {}
        for name in args.rows:
            rows[name] = one = row(found, args.episodes, ROWS[name], horizon=horizon, mode=args.mode, role=role)
            half = "      " if one["interval"] is None else f"±{one['interval']:.2f}"
            print(
                f"{horizon:6}{name:26}{one['return_mean']:+7.2f} {half}   success {one['success']:.2f}"
                f"   {one['env_steps']:5.2f} env_steps" + (f"   failed: {one['failures']}" if one["failures"] else ""),
                flush=True,
            )
        if "programs" in rows:
            told[f"{horizon}_horizon"] = rows["programs"]["return_mean"]
        told[f"{horizon}_rows"] = rows
    if args.json:
        print(json.dumps(told | {"mode": args.mode, "episodes": args.episodes}))


if __name__ == "__main__":
    main()

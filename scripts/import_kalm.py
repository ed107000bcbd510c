"""Turns rollouts of the authors' file (docs/papers/kalm.md), or of a Minari dataset that was recorded in CLEVR-Robot,
into the dataset that KALM's methods read. (method=kalm/data with method.import_from does the same within a run.)

Usage: python scripts/import_kalm.py data/clevr_robot.npy directory
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from llmrl.checks import ConfigError  # noqa: E402
from llmrl.envs.clevr_robot.authors import imported  # noqa: E402
from llmrl.envs.clevr_robot.rollouts import save  # noqa: E402
from llmrl.methods.kalm.data import described  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="an .npy file, or the directory of a Minari dataset")
    parser.add_argument("directory", type=Path, help="where the dataset is to be")
    args = parser.parse_args()
    try:
        rollouts = imported(args.source)
    except (ConfigError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    file = save(args.directory, rollouts, {"imported_from": str(args.source)})
    print(json.dumps({"file": str(file)} | described(rollouts)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

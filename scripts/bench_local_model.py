"""How fast does a local model read and write here?

    python scripts/bench_local_model.py outputs/models/<file>.gguf [--threads 1] [--tokens 200] [--parallel 1]

It reads a prompt of LESR (some 1,000 tokens), writes that many tokens, and prints llama.cpp's own measurements; with
--parallel N it answers the prompt N times at once, and prints the tokens that all write per second of writing.
"""

import argparse
import json
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.request import Request, urlopen

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from llmrl.config import from_node  # noqa: E402
from llmrl.hydra_compose import compose  # noqa: E402
from llmrl.llm.local.server import LocalServer, check  # noqa: E402
from llmrl.llm.transcript import Transcript  # noqa: E402
from llmrl.methods.lesr import prompts  # noqa: E402
from llmrl.runs.stop import Stop  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=200, help="written")
    parser.add_argument("--parallel", type=int, default=1, help="calls at once")
    args = parser.parse_args()
    overrides = ["experiment=lesr/hopper", "llm=local", f"llm.weights={args.weights}", f"llm.threads={args.threads}",
                 f"llm.parallel={args.parallel}"]  # fmt: skip
    node = compose(overrides)
    node.pop("rerun")
    run = from_node(node, overrides)
    check(run.llm)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        server = LocalServer(run.llm, Transcript(Path(folder) / "llm.jsonl"))
    api_base, key = server.address(Stop())
    loaded = time.perf_counter() - start
    messages = prompts.Asker(run.env.task, run.env.suite, run.method.search).ask([])
    body = {"messages": messages, "max_tokens": args.tokens, "ignore_eos": True, "temperature": 0}
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}

    def asked(_: int) -> dict[str, float]:
        request = Request(f"{api_base}/chat/completions", json.dumps(body).encode(), headers)
        with urlopen(request, timeout=3600) as answer:
            return json.load(answer)["timings"]

    with ThreadPoolExecutor(args.parallel) as pool:
        several = list(pool.map(asked, range(args.parallel)))
    measured = several[0]
    server.close()
    together = sum(one["predicted_per_second"] for one in several)
    print(
        f"{Path(args.weights).name}, {args.threads} thread(s): loaded in {loaded:.1f} s; "
        f"read {measured['prompt_n']} tokens at {measured['prompt_per_second']:.1f}/s, "
        f"wrote {measured['predicted_n']} at {measured['predicted_per_second']:.1f}/s"
        + (f"; {args.parallel} calls together {together:.1f}/s" if several[1:] else "")
    )


if __name__ == "__main__":
    main()

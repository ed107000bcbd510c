"""Writes tests/golden/d3rlpy_{bc,cql,bcq}.npz: what d3rlpy 2.8.1 makes of some weights and batches. Runs in an
environment of its own, since d3rlpy wants gymnasium 1.0.0:

    python3.11 -m venv /tmp/d3rlpy && /tmp/d3rlpy/bin/pip install "torch==2.13.0+cpu" "d3rlpy==2.8.1"
    /tmp/d3rlpy/bin/python scripts/d3rlpy_golden.py

With --bench it answers lines such as "bc 394 200" on its input: the processor seconds of 200 updates of BC on
observations of 394 numbers, drawing the batches included. scripts/bench_offline.py asks so.
"""

import os
import sys
import time
from importlib.metadata import version
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import d3rlpy  # noqa: E402
import numpy as np  # noqa: E402
import structlog  # noqa: E402
import torch  # noqa: E402
from d3rlpy.algos import DiscreteBCConfig, DiscreteBCQConfig, DiscreteCQLConfig  # noqa: E402
from d3rlpy.models.encoders import VectorEncoderFactory  # noqa: E402
from d3rlpy.torch_utility import TorchMiniBatch  # noqa: E402

OUT = Path(__file__).resolve().parents[1] / "tests" / "golden"
OBS, ACTIONS, BATCH, UPDATES, HIDDEN = 7, 5, 16, 8, [24, 16]
EVERY = 3  # updates between copies to the target network
RATE = 1e-2  # of Adam
# Which config, and its settings; gamma ** interval is the discount, so intervals of 0 are the authors' bug.
VARIANTS = {
    "bc": {"relu": (DiscreteBCConfig, {"beta": 0.5}, 1), "tanh": (DiscreteBCConfig, {"beta": 0.1}, 1)},
    "cql": {
        "gamma": (DiscreteCQLConfig, {"alpha": 10.0, "gamma": 0.9, "target_update_interval": EVERY}, 1),
        "one": (DiscreteCQLConfig, {"alpha": 2.0, "gamma": 0.9, "target_update_interval": EVERY}, 0),
    },
    "bcq": {"gamma": (DiscreteBCQConfig, {"gamma": 0.9, "target_update_interval": EVERY}, 1)},
}


def layers(modules) -> list[np.ndarray]:
    """Weights and biases of the linear layers, from the observation on: Q's, and behind them the imitator's head."""
    nets = [modules.q_funcs[0]] if hasattr(modules, "q_funcs") else []
    nets += [modules.imitator] if hasattr(modules, "imitator") else []
    found: list[torch.nn.Linear] = []
    for net in nets:
        known = {id(layer) for layer in found}  # BCQ's imitator stands on the encoder of Q
        found += [part for part in net.modules() if isinstance(part, torch.nn.Linear) and id(part) not in known]
    found.sort(key=lambda layer: layer.out_features == ACTIONS)  # the encoder first; stable
    return [p.detach().numpy().copy() for layer in found for p in (layer.weight, layer.bias)]


def golden(config, settings: dict, interval: int, activation: str, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Initial weights, batches, and the losses and weights of every update."""
    torch.manual_seed(int(rng.integers(2**31)))
    encoder = VectorEncoderFactory(hidden_units=HIDDEN, activation=activation)
    algorithm = config(encoder_factory=encoder, learning_rate=RATE, **settings).create()
    algorithm.create_impl((OBS,), ACTIONS)
    modules = algorithm.impl._modules
    out = {f"initial/{i}": x for i, x in enumerate(layers(modules))}
    columns = {
        "obs": rng.standard_normal((UPDATES, BATCH, OBS)),
        "next_obs": rng.standard_normal((UPDATES, BATCH, OBS)),
        "action": rng.integers(ACTIONS, size=(UPDATES, BATCH)).astype(float),
        "reward": 3 * rng.standard_normal((UPDATES, BATCH)),  # so that some errors are above Huber's threshold
        "terminated": (rng.random((UPDATES, BATCH)) < 0.3).astype(float),
    }
    out |= {name: x.astype(np.float32) for name, x in columns.items()}
    losses = []
    for i in range(UPDATES):
        obs, next_obs = torch.from_numpy(out["obs"][i]), torch.from_numpy(out["next_obs"][i])
        action, reward, over = (torch.from_numpy(out[name][i])[:, None] for name in ("action", "reward", "terminated"))
        batch = TorchMiniBatch(
            obs, action, reward, next_obs, action, torch.zeros_like(reward), over,
            intervals=torch.full_like(reward, interval), device="cpu",
        )  # fmt: skip
        losses.append(algorithm.impl.update(batch, i + 1)["loss"])  # it copies to the target where EVERY divides this
    return out | {"losses": np.array(losses)} | {f"final/{i}": x for i, x in enumerate(layers(modules))}


def write() -> None:
    rng = np.random.default_rng(0)
    made_by = " ".join(f"{name} {version(name)}" for name in ("d3rlpy", "torch", "numpy"))
    OUT.mkdir(exist_ok=True)
    for name, variants in VARIANTS.items():
        arrays = {"made_by": np.array(made_by), "every": np.array(EVERY), "learning_rate": np.array(RATE)}
        for variant, (config, settings, interval) in variants.items():
            activation = "tanh" if variant == "tanh" else "relu"
            made = golden(config, settings, interval, activation, rng)
            arrays |= {f"{variant}/{key}": x for key, x in made.items()}
        np.savez(OUT / f"d3rlpy_{name}.npz", **arrays)
        print(f"{OUT}/d3rlpy_{name}.npz: {', '.join(variants)}")


# --- speed ----------------------------------------------------------------------------------------------------------


def bench() -> None:
    """KALM's settings, which are these configs' defaults but for alpha."""
    made = {}
    for line in sys.stdin:
        name, width, updates = line.split()
        if (name, width) not in made:
            made.clear()
            made[name, width] = contender(name, int(width))
        algorithm, buffer = made[name, width]
        start = time.process_time()
        for _ in range(int(updates)):
            algorithm.update(buffer.sample_transition_batch(algorithm.batch_size))
        print(time.process_time() - start, flush=True)


def contender(name: str, width: int):
    """An algorithm, and episodes of 11 steps to learn from."""
    rng = np.random.default_rng(0)
    episodes, steps = 1000, 11
    ends = np.tile(np.arange(steps) == steps - 1, episodes)
    buffer = d3rlpy.dataset.MDPDataset(
        rng.standard_normal((episodes * steps, width), np.float32),
        rng.integers(40, size=episodes * steps),
        rng.standard_normal(episodes * steps, np.float32),
        ends.astype(np.float32),
    )
    config = DiscreteBCConfig() if name == "bc" else DiscreteCQLConfig(alpha=10.0)
    algorithm = config.create()
    algorithm.build_with_dataset(buffer)
    return algorithm, buffer


if __name__ == "__main__":
    torch.set_num_threads(1)
    # its log goes to stdout, where only answers shall be
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    bench() if "--bench" in sys.argv else write()

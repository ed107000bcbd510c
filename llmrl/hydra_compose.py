"""From overrides to what `llmrl run` would run."""

from collections.abc import Sequence
from typing import Any

from omegaconf import OmegaConf

from llmrl.checks import ConfigError, nearest
from llmrl.conf_files import options
from llmrl.hydra_errors import explain, plain
from llmrl.hydra_session import LOCK, composed, with_hydras

LAUNCHER = "hydra/launcher"


def compose(overrides: Sequence[str]) -> dict[str, Any]:
    """What `llmrl run <overrides>` would run, as plain containers with `choices`. Raises ConfigError."""
    with LOCK:
        try:
            node, chosen = composed(overrides)
        except Exception as error:  # also of yaml, and what Hydra itself does not expect
            raise ConfigError(explain(error, overrides)) from error
        return plain(node, chosen)


def compose_seeds(overrides: Sequence[str], seeds: Sequence[int]) -> list[dict[str, Any]]:
    """`compose` of the same overrides with each of these seeds, in the time of one. Where nothing follows the seed
    (as `method.rollouts.model.seed=${seed}` does), all are one dict but for it. Raises ConfigError."""
    with LOCK:
        try:
            node, chosen = composed(overrides)
        except Exception as error:  # as in `compose`
            raise ConfigError(explain(error, overrides)) from error

        def seeded(seed: int) -> dict[str, Any]:
            node.seed = seed
            return plain(node, chosen)

        found = [seeded(seed) for seed in seeds[:2]]
        if len(found) == 2 and found[0] | {"seed": seeds[1]} != found[1]:
            return [*found, *map(seeded, seeds[2:])]
        return [found[0] | {"seed": seed} for seed in seeds]


def launcher(overrides: Sequence[str]) -> dict[str, Any]:
    """The keys of `hydra/launcher=<name>`, conf/hydra/launcher/<name>.yaml, with `overrides` of them. Raises
    ConfigError."""
    for text in overrides:
        group, _, name = text.partition("=")
        if group == LAUNCHER and name not in (known := options(LAUNCHER)):
            raise ConfigError(f"{LAUNCHER}: there is no `{name}`.{nearest(name, known)} There are: {', '.join(known)}.")
    with LOCK:
        try:
            node = with_hydras(overrides)
        except Exception as error:
            raise ConfigError(explain(error, overrides)) from error
        return OmegaConf.to_container(node.hydra.launcher, resolve=True)  # type: ignore[return-value]

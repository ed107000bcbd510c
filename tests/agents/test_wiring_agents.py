"""Every key of every agent changes something of it: its networks, what it learns, how it acts, explores or stores.

What it changes them to is compared with references elsewhere (test_agents_sb3.py, test_rainbow.py, …).
"""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from offline_training import ACTIONS, STATE, WIDTH, history_space, some_transitions
from plain_crops import RESIDUAL, crop_batch, crop_space
from small_agents import FRAMES, box, config, make, random_batch, random_steps, some_obs, vectors

from llmrl.config import agent_of, module_of
from llmrl.contracts.explorer import Clock

ARMS, VECTOR, FORCE = spaces.Discrete(3), vectors(3), box([-2.0, 0.0], [2.0, 1.0])
NO_FRAMES = {"hidden": (6,)}
SIZES = NO_FRAMES | {"hidden_after_convolutions": (6,)}
REPLAY = {"batch_size": 4, "replay_size": 32, "learning_starts": 0}
OF_REPLAY = {"batch_size": 5, "replay_size": 16, "learning_starts": 9, "updates_per_env_step": 0.5, "gamma": 0.5}
DECAY = {"epsilon_schedule": "exponential", "epsilon_decay": 0.99, "epsilon_start": 0.9, "epsilon_end": 0.4}
EPSILON = {"epsilon_start": 0.9, "epsilon_end": 0.01, "epsilon_fraction": 0.4, "epsilon_schedule": "exponential",
           "epsilon_decay": (0.9, DECAY)}  # fmt: skip
DQN = OF_REPLAY | EPSILON | {
    "double": (True, {"learning_rate": 0.3}), "dueling": True, "noisy": True, "sigma0": (0.1, {"noisy": True}),
    "hidden": (7,),
    "hidden_after_convolutions": ((7,), FRAMES), "learning_rate": 1e-2, "loss": "mse", "max_grad_norm": 1e-3,
    "target_update_every": 1, "sample_with_replacement": False, "random_steps": 9,
}  # fmt: skip
RAINBOW = OF_REPLAY | EPSILON | {
    "atoms": 7, "v_min": -3.0, "v_max": 4.0, "sigma0": 0.3, "acting_noise": "every_update", "hidden": (7,),
    "hidden_after_convolutions": ((7,), FRAMES), "convolutions": ("pooled", FRAMES), "learning_rate": 1e-2,
    "adam_epsilon": 1e-2, "max_grad_norm": 1e-4, "n_step": 2, "target_update_every": 1, "priority_exponent": 0.9,
    "priority_weight_start": 0.9, "epsilon_schedule": "linear",
}  # fmt: skip
LINEAR = {"epsilon_schedule": "linear"}  # of Rainbow it is none
RAINBOW |= {key: (EPSILON[key], LINEAR) for key in ("epsilon_start", "epsilon_end", "epsilon_fraction")}
RAINBOW_SIZES = SIZES | REPLAY | {"atoms": 5, "n_step": 1, "target_update_every": 2, "max_grad_norm": 1.0}
NOISE = {"exploration_noise": 0.7, "noise_units": ("absolute", {}), "random_steps": 9}
DDPG = OF_REPLAY | NOISE | {"hidden": (7,), "actor_learning_rate": 1e-2, "critic_learning_rate": 1e-2, "tau": 0.5,
                            "adam_epsilon": 1e-2, "sample_with_replacement": False}  # fmt: skip
SAC = OF_REPLAY | {"hidden": (7,), "learning_rate": 1e-2, "tau": 0.5, "temperature": 0.1, "learn_temperature": False,
                   "target_entropy": -7.5, "sample_with_replacement": False, "random_steps": 9,
                   "temperature_learning_rate": 0.1, "evaluate": "sample"}  # fmt: skip
OFFLINE = {"hidden": (7,), "activation": "tanh", "learning_rate": 1e-1, "batch_size": 5, "evaluate": "sample"}
VALUES = OFFLINE | {"gamma": 0.5, "discount": "one", "target_update_every": 1}
AGENTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # its small settings, and another value of each key
    "dqn": (SIZES | REPLAY | {"random_steps": 0, "target_update_every": 2}, DQN),
    "rnd_dqn": (
        SIZES | REPLAY | {"random_steps": 0, "target_update_every": 2, "rnd_predictor_hidden": (4,), "rnd_size": 4},
        DQN | {"bonus": "authors_unused", "bonus_weight": 5.0, "bonus_scale": "clipped", "rnd_learning_rate": 1e-1,
               "rnd_size": 5, "rnd_target_hidden": (3,), "rnd_predictor_hidden": (5,)},
    ),
    "rainbow": (RAINBOW_SIZES, RAINBOW),
    "curl": (
        RAINBOW_SIZES | {"hidden": (), "contrastive_hidden": 6, "contrastive_size": 4},
        {key: value for key, value in RAINBOW.items() if key != "hidden"} | {
            "contrastive_weight": 9.0, "contrastive_hidden": 7, "contrastive_size": 5, "contrastive_scale": 3.0,
            "encoder_tau": 0.5, "shift": 2, "sigma0": 0.7},
    ),
    "ddpg": (NO_FRAMES | REPLAY | {"random_steps": 0}, DDPG),
    "td3": (
        NO_FRAMES | REPLAY | {"random_steps": 0},
        DDPG | {"policy_delay": 1, "target_noise": 0.9, "target_noise_clip": (0.05, {"target_noise": 0.9})},
    ),
    "sac": (NO_FRAMES | REPLAY | {"random_steps": 0}, SAC),
    "sac_crops": (NO_FRAMES | REPLAY | {"random_steps": 0}, SAC | {"attention": "none"}),
    "sac_objects": (
        NO_FRAMES | REPLAY | {"random_steps": 0}, SAC | {"encoder": "means", "hand_weight": 1.0, "temperature": 1.0}
    ),
    "bc": ({"hidden": (6,), "batch_size": 4}, OFFLINE | {"beta": 3.0}),
    "cql": ({"hidden": (6,), "batch_size": 4, "target_update_every": 2}, VALUES | {"alpha": 1.0}),
    "bcq": (
        {"hidden": (6,), "batch_size": 4, "target_update_every": 2, "learning_rate": 1e-2},
        VALUES | {"threshold": 0.95, "beta": 3.0},
    ),
    "decision_transformer": (
        {"width": 8, "layers": 1, "heads": 2, "context": 4, "batch_size": 4, "learning_rate": 1e-2},
        {"context": 3, "width": 12, "layers": 2, "heads": 1, "learning_rate": 1e-1, "max_grad_norm": 1e-4,
         "target_quantile": 0.1, "batch_size": 5, "evaluate": "sample"},
    ),
}  # fmt: skip
# n_envs: the loop is told it; hidden: of CURL, whose observations are frames, so that it is refused
ELSEWHERE = {"n_envs", "hidden"}
NO_LEARNERS = {"ppo", "fixed"}  # test_ppo.py, and nothing to learn
CASES = [(name, key) for name, (_, keys) in AGENTS.items() for key in keys]


def test_every_key_of_every_agent_has_another_value():
    from llmrl.conf_files import options

    assert set(options("agent")) == set(AGENTS) | NO_LEARNERS
    for name, (_, keys) in AGENTS.items():
        fields = {field.name for field in dataclasses.fields(module_of("agent", name).Config)}
        assert set(keys) | (ELSEWHERE & fields) == fields, name


def test_curl_refuses_what_it_would_ignore():
    with pytest.raises(ValueError, match="hidden: .* hidden_after_convolutions"):
        config("curl", hidden=(64,))


def plain(value: Any, depth: int = 0) -> Any:
    """The numbers and names in an object, as far down as settings lie."""
    if value is None or isinstance(value, int | float | str | tuple):
        return value
    if isinstance(value, np.ndarray) and value.size < 9:
        return value.tolist()
    if dataclasses.is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if depth == 2 or not hasattr(value, "__dict__") or isinstance(value, torch.nn.Module | torch.Generator):
        return None
    return {key: plain(part, depth + 1) for key, part in vars(value).items()}


def tensors(state: Any) -> list:
    if isinstance(state, dict):
        return [part for key in state for part in tensors(state[key])]
    if isinstance(state, torch.Tensor):
        return [tuple(state.shape), state.double().sum().item(), state.double().square().sum().item()]
    return [state] if isinstance(state, int | float) else []


def some_batch(space: spaces.Space, actions: spaces.Space, seed: int) -> Any:
    if isinstance(space, spaces.Dict):
        return crop_batch(space, actions, 4, seed=seed)
    batch = random_batch(space, actions, 4, seed)
    return batch._replace(weight=torch.ones(4), discount=torch.full((4,), 0.99))


def online(name: str, space: spaces.Space, actions: spaces.Space, settings: dict) -> dict[str, Any]:
    agent = make(name, space, actions, env_steps=40, **settings)
    buffer, rng, losses = agent.replay_buffer(), np.random.default_rng(0), []
    if isinstance(space, spaces.Box) and space.dtype == np.float32:
        for step in random_steps(space, actions, 24, rng):
            buffer.add(step)
        batches = buffer.batches(4, np.random.default_rng(1), agent)
    else:  # frames that follow on each other are a test of its own; a replay buffer's settings are seen below
        batches = (some_batch(space, actions, seed) for seed in range(3))
    for batch in batches:
        out = agent.update(batch)
        if batch.places is not None:
            buffer.after(batch, out)
        losses.append(out["loss" if "loss" in out else "critic_loss"].item())
    obs = {key: part.numpy() for key, part in batch.obs.items()} if isinstance(batch.obs, dict) else batch.obs.numpy()
    explorer, gen = agent.explorer(), torch.Generator().manual_seed(0)
    proposed = []
    for env_steps in (0, 3, 8, 20, 40):
        policy = lambda: np.zeros((50, *actions.shape), actions.dtype)  # noqa: E731
        action = explorer.propose(None, policy, Clock(env_steps=env_steps), [{}] * 50, np.random.default_rng(2))
        proposed.append(action.tolist())
    num_updates = [buffer.num_updates(Clock(env_steps=n)) for n in (5, 12, 20)]
    acted = [agent.act(obs, explore=explore, gen=gen).tolist() for explore in (True, True, False)]
    return {"learnt": tensors(agent.state_dict()), "losses": losses, "acted": acted, "explored": proposed,
            "num_updates": num_updates, "replay_buffer": plain(buffer), "explorer": plain(explorer)}  # fmt: skip


def offline(name: str, space: spaces.Space, actions: spaces.Space, settings: dict) -> dict[str, Any]:
    agent = make(name, space, actions, **settings)
    source, rng = agent.source(some_transitions(0, episodes=12)), np.random.default_rng(0)
    losses = [agent.update(source.draw(rng))["loss"].item() for _ in range(6)]
    obs = some_obs(space, 40, rng) if isinstance(space, spaces.Box) else None
    acted = None if obs is None else agent.act(obs, explore=False, gen=torch.Generator().manual_seed(0)).tolist()
    stochastic = agent.config.evaluate if obs is None else None
    return {"learnt": tensors(agent.state_dict()), "losses": losses, "acted": acted, "evaluate": stochastic}


def observed(name: str, settings: dict, space: spaces.Space | None = None) -> dict[str, Any]:
    torch.set_num_threads(1)
    if name in ("bc", "cql", "bcq", "decision_transformer"):
        size = STATE + WIDTH
        context = (AGENTS[name][0] | settings).get("context", 0)
        seen = history_space(size, context) if name == "decision_transformer" else vectors(size)
        return offline(name, seen, spaces.Discrete(ACTIONS), AGENTS[name][0] | settings)
    if name in ("sac_crops", "sac_objects"):
        return online(name, crop_space(), RESIDUAL, AGENTS[name][0] | settings)
    discrete = agent_of(name).actions == "discrete"
    space = space or (FRAMES if name == "curl" else VECTOR)
    return online(name, space, ARMS if discrete else FORCE, AGENTS[name][0] | settings)


@pytest.mark.parametrize("name, key", CASES)
def test_another_value_makes_another_agent(name, key):
    value, given = AGENTS[name][1][key], {}
    if isinstance(value, tuple) and len(value) == 2:  # a value, and what it needs to make a difference
        value, given = value
    space = given if isinstance(given, spaces.Space) else None
    base = {} if space is not None else dict(given)
    before = getattr(config(name, **AGENTS[name][0] | base), key)
    assert value != before
    assert observed(name, base | {key: value}, space) != observed(name, base, space)

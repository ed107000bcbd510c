"""From the checked Config to objects: environments, agents, evaluation cases, policies. Nothing here knows a run's
directory."""

from dataclasses import fields, replace
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from llmrl.checks import ConfigError, raised
from llmrl.conf_files import options
from llmrl.config import Config, agent_of, method_of, module_of, wrapper_of
from llmrl.contracts.agent import Agent, executed
from llmrl.contracts.env import Role
from llmrl.envs.base import check_spaces
from llmrl.envs.history import WithHistory
from llmrl.limits import allocating, check_fits, check_parallel
from llmrl.runs import seeding
from llmrl.runs.evaluate import Act, Case, cases, with_epsilon


def set_up_torch(config: Config) -> None:
    """Threads and the device, before anything is built. Raises ConfigError where the device is not there."""
    parallel = {"compute.threads": config.compute.threads, "compute.workers": config.compute.workers}
    for key, n in (parallel | {"eval.workers": config.eval.workers}).items():
        check_parallel(key, n)
    torch.set_num_threads(config.compute.threads)
    # Adam's moments of units that get no gradient decay into denormal numbers, with which a processor is slow: some 700
    # updates on, an update of Atari's DQN would take half as long again. As 0 they change no weight.
    torch.set_flush_denormal(True)
    device = config.compute.device
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdigit()):
        raise ConfigError(f"compute.device: unknown device `{device}`; use cpu, cuda or cuda:<number>")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"compute.device: {device} asked for, but torch {torch.__version__} sees {torch.cuda.device_count()} GPUs. "
            "Use compute.device=cpu, or look at `llmrl doctor`."
        )


def make_env(config: Config, role: Role, *, render: bool = False) -> gym.Env:
    """An environment, in its wrapper; `render` makes env.render() return images."""
    try:
        env = module_of("env", config.env.suite).make(config.env, role, render=render)
    except ConfigError:
        raise
    except Exception as error:  # whatever a constructor raises: an environment is somebody's own code
        name = f"env.id={config.env.id}" if hasattr(config.env, "id") else f"env={config.choices['env']}"
        raise ConfigError(f"{name} cannot be made: {raised(error)}") from error
    check_spaces(env, f"env={config.choices['env']}")
    if (context := getattr(config.agent, "context", None)) is not None:  # an agent that acts by what happened before
        env = WithHistory(env, context)
    if config.wrapper is None:
        return env
    wrapper = wrapper_of(config.choices["wrapper"])
    return wrapper(env, config.wrapper, role, gamma=getattr(config.agent, "gamma", 1.0))


def check_actions(config: Config, env: gym.Env) -> None:
    """Raises ConfigError where the agent does not act in such actions."""
    cls = agent_of(config.choices["agent"])
    kind = "discrete" if isinstance(env.action_space, gym.spaces.Discrete) else "continuous"
    if cls.actions not in (kind, "both"):
        names = [name for name in options("agent") if _actions_of(name) in (kind, "both")]
        raise ConfigError(
            f"agent={config.choices['agent']} acts in {cls.actions} actions, but env={config.choices['env']} has "
            f"{kind} ones ({env.action_space}). Agents for it: {', '.join(names)}."
        )


def make_agent(config: Config, env: gym.Env, *, env_steps: int) -> Agent:
    """The agent for the spaces of `env`, with networks from the run's own stream. ConfigError where they do not fit."""
    check_actions(config, env)
    cls = agent_of(config.choices["agent"])
    sizes = {f.name: getattr(config.agent, f.name) for f in fields(config.agent)}
    sizes = {k: list(v) for k, v in sizes.items() if isinstance(v, tuple)} or sizes
    with allocating(f"The networks of agent={config.choices['agent']} ({_listed(sizes)})"):
        agent = cls(
            config.agent,
            env.observation_space,
            env.action_space,
            env_steps=env_steps,
            device=torch.device(config.compute.device),
            gen=seeding.torch_generator(config.seed, "agent"),
        )
    if config.compute.graphs and agent.device.type == "cuda":
        agent.capture()
    return agent


def check_stackable(config: Config) -> None:
    """Raises ConfigError where updates of several seeds cannot be made as one. Makes the environment, since agents may
    be stackable with some observations only, but no agent."""
    names = config.choices
    method = method_of(names["method"])
    if not method.trains or method.artifact is not None:
        raise ConfigError(f"compute.stack: method={names['method']} trains no agent by itself. Leave it out")
    env = make_env(config, "eval")
    env.close()
    check_actions(config, env)
    if not agent_of(names["agent"]).can_stack(config.agent, env.observation_space):
        raise ConfigError(
            f"compute.stack: updates of agent={names['agent']} in env={names['env']} cannot be made for several seeds "
            "at once. Those of td3, ddpg, sac and dqn can (vector observations, neither dueling nor noisy)"
        )


def check_replay_buffer(config: Config, agent: Agent) -> None:
    """Raises ConfigError where the agent's replay buffer, or a batch of it, does not fit into this machine's."""
    sizes = {k: getattr(config.agent, k) for k in ("replay_size", "n_steps", "n_envs") if hasattr(config.agent, k)}
    with allocating(f"The replay buffer of agent={config.choices['agent']} ({_listed(sizes)})"):
        rings = agent.replay_buffer().rings().values()
        for ring in rings:
            row = sum(column[:1].nbytes for column in getattr(ring, "columns", {}).values())
            if (n := getattr(config.agent, "batch_size", None)) is not None:
                check_fits(f"A batch of agent.batch_size={n:,}", n * row)


def _listed(sizes: dict[str, Any]) -> str:
    return ", ".join(f"agent.{key}={value}" for key, value in sizes.items())


def _actions_of(agent: str) -> str:
    """discrete, continuous or both; empty for a user's own that cannot be imported: it is not what is asked about."""
    try:
        return agent_of(agent).actions
    except Exception:  # noqa: BLE001
        return ""


def evaluation_set(config: Config, name: str) -> list[Case]:
    """The cases of an evaluation set, known to the environment's module. Raises ConfigError for an unknown one."""
    module = module_of("env", config.env.suite)
    known = getattr(module, "EVALUATION_SETS", ())
    if name not in known:
        there = f"There are: {', '.join(known)}." if known else "It has none: use eval.sets=[]."
        raise ConfigError(f"eval.sets: env={config.choices['env']} has no evaluation set `{name}`. {there}")
    each = config.eval.set_episodes
    episodes = each.get(name) if isinstance(each, dict) else each
    drawn = cases(config.eval.seed, name, episodes or config.eval.episodes)
    return [
        replace(case, options=module.case_options(config.env, name, seeding.generator(case.seed, "options")))
        for case in drawn
    ]


def greedy(agent: Agent, *, sample: bool = False) -> Act:
    """How an agent acts when it is evaluated, or with `sample` when it explores; what a stochastic policy draws follows
    from the episode's generator, so that a case is the same whoever plays it, and after whichever others."""
    gen = torch.Generator()

    def act(obs: Any, rng: np.random.Generator) -> NDArray:
        gen.manual_seed(int(rng.integers(2**31)))
        return executed(agent, agent.act(obs, explore=sample, gen=gen))

    return act


def evaluated(agent: Agent, config: Config, env: gym.Env, *, sample: bool = False) -> Act:
    """The greedy policy, or with `sample` the one that explores, with the evaluation's epsilon."""
    return with_epsilon(greedy(agent, sample=sample), config.eval.epsilon, env.action_space)


def evaluation_worker(config: Config) -> tuple[gym.Env, Agent, tuple[Act, Act], int]:
    """What a process of an EvaluationPool holds."""
    set_up_torch(config)
    env = make_env(config, "eval")
    agent = make_agent(config, env, env_steps=config.budget.env_steps)
    acts = evaluated(agent, config, env), evaluated(agent, config, env, sample=True)
    return env, agent, acts, config.eval.max_steps


def training_env(config: Config) -> gym.Env:
    """What an environment's own process holds; the numbers are those of this one, flushed denormals included."""
    set_up_torch(config)
    return make_env(config, "train")


def mean_facts(facts: list[dict[str, Any]]) -> dict[str, Any]:
    """Of n wrappers side by side the mean of every number; words are alike in all."""
    words = {key: value for key, value in facts[0].items() if np.asarray(value).dtype.kind == "U"}
    return {key: np.mean([f[key] for f in facts], axis=0).tolist() for key in facts[0] if key not in words} | words

"""A trained agent in hand: read from its run's directory, with the environment that it was trained in."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmrl.checks import ConfigError
from llmrl.config import Config, from_node
from llmrl.contracts.env import Role

if TYPE_CHECKING:
    import gymnasium as gym

    from llmrl.contracts.agent import Agent
    from llmrl.runs.evaluate import Case, Scores


class Loaded:
    """What a run has learned: agent.pt of a finished one, else its newest checkpoint.

    Attributes:
        path: the run's directory.
        config: its checked configuration, with the wrapper that it trained in. Where this machine has no GPU, the
            device is the CPU.
        agent: the trained agent.
        source: the file or checkpoint that the agent is from, inside of `path`.
        clock: {"env_steps", "updates"} after which it was kept.
    """

    def __init__(self, run: Path) -> None:
        """Reads the run; nothing in it is touched. Sets torch's threads to its compute.threads.

        Raises:
            ConfigError: there is no run, it has no trained agent, or its environment cannot be made here.
        """
        import torch

        from llmrl import build
        from llmrl.runs.kept_wrapper import as_trained
        from llmrl.runs.learned import composed, learned
        from llmrl.runs.seeding import torch_generator

        check_run_directory(run)
        config = as_trained(from_node(composed(run)), run)
        if not torch.cuda.is_available():
            config = replace(config, compute=replace(config.compute, device="cpu"))
        build.set_up_torch(config)
        self.path: Path = run
        self.source, self.clock, state = learned(run)
        self.config: Config = config
        self._env = self.env()
        self.agent: Agent = build.make_agent(config, self._env, env_steps=config.budget.env_steps)
        self.agent.load_state_dict(state)
        self._gen = torch_generator(config.seed, "loaded")

    def env(self, render: bool = False, *, role: Role = "eval") -> "gym.Env":
        """A new environment as the run's are, in the wrapper that it trained in.

        Args:
            render: whether `env.render()` returns images, uint8 (height, width, 3).
            role: "eval" is paid the environment's own reward; "train" has what holds for learning only (a wrapper's
                reward, clipped rewards, lost lives).

        Raises:
            ConfigError: it cannot be made here, or cannot be rendered.
        """
        from llmrl import build

        return build.make_env(self.config, role, render=render)

    def act(self, obs: Any, *, explore: bool = False) -> Any:
        """What the agent does.

        Args:
            obs: one observation of `env()`, (*obs) or a dict of arrays, not batched.
            explore: samples where the policy is stochastic (SAC, PPO, …); epsilon-greedy and action noise belong to
                training, and are not added.

        Returns:
            The action as `env().step` takes it: (*action) in the environment's units, an integer where it is discrete.
        """
        from llmrl.contracts.agent import executed
        from llmrl.runs.evaluate import batch_of_one

        return executed(self.agent, self.agent.act(batch_of_one(obs), explore=explore, gen=self._gen))[0]

    def play(self, episodes: int | None = None, seed: int | None = None) -> list[float]:
        """Plays evaluation episodes, as `llmrl eval <run> --same` does.

        Args:
            episodes: how many; as many as an evaluation of the run has where None.
            seed: the evaluation seed that the cases follow from; the run's own (`eval.seed`) where None, so that
                `play()` repeats its last evaluation.

        Returns:
            Each episode's undiscounted return, in the environment's own reward.

        Raises:
            ConfigError: `episodes` is less than 1, or `seed` less than 0.
        """
        from llmrl.runs.evaluate import cases

        own = self.config.eval
        episodes, seed = own.episodes if episodes is None else episodes, own.seed if seed is None else seed
        if episodes < 1 or seed < 0:
            raise ConfigError(f"play: episodes from 1 on and seeds from 0 on, not {episodes} and {seed}")
        return self.play_cases(self._env, cases(seed, "eval", episodes)).returns

    def play_cases(self, env: "gym.Env", evaluation_set: "Sequence[Case]") -> "Scores":
        """Greedy episodes of these cases in `env`, one of `env()`: everything that an evaluation keeps of them."""
        from llmrl import build
        from llmrl.runs.evaluate import evaluate
        from llmrl.runs.stop import Stop

        return evaluate(
            build.evaluated(self.agent, self.config, env), env, evaluation_set, self.config.eval.max_steps, Stop()
        )


def check_run_directory(run: Path) -> None:
    """Raises ConfigError, with the nearest run directories, where `run` is none."""
    if (run / "config.json").is_file():
        return
    from difflib import SequenceMatcher

    from llmrl.commands.status import run_directories

    given, root = str(run).rstrip("/"), Path(run.parts[0]) if run.parts else Path("outputs")
    found = [str(path) for path in run_directories(root if root.is_dir() and root != Path("/") else Path("outputs"))]
    found = [path for path in found if (Path(path) / "config.json").is_file()]
    inside = [path for path in found if path.startswith(given + "/")]
    near = inside or sorted(found, key=lambda path: SequenceMatcher(None, given, path).ratio(), reverse=True)
    hint = "Did you mean\n" + "\n".join(f"  {path}" for path in near[:3]) if near else "There is none below outputs/."
    raise ConfigError(f"not a run directory (no config.json): {run}. {hint}")

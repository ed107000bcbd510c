"""ExploRLLM's SAC (Ma et al. 2025, arXiv 2403.09583): actor and critics see object crops through encoders.

All but the encoders is SAC. Their BatchNorm is as in stable-baselines3: every pass of actor and critics in an update
normalises by its own batch and moves the running statistics (the critics' twice: for their own loss, and as they are
after it for the actor's); the target normalises by copies of the critics' running ones; acting by the actor's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from gymnasium import spaces
from numpy.typing import NDArray
from pydantic import BeforeValidator
from torch import Generator, Tensor, nn

from llmrl.agents import sac
from llmrl.agents.nets import Critics
from llmrl.agents.nets_crops import FEATURES, Encoded, encoder, see
from llmrl.agents.nets_gaussian import SquashedGaussian
from llmrl.contracts.replay import Batch
from llmrl.replay.crops import CropReplay
from llmrl.replay.ring import Sampling


@dataclass(frozen=True)
class Config(sac.Config):
    """SAC's keys and one more; see conf/agent/sac_crops.yaml for what each means and where its value is from."""

    # yaml and the command line read an unquoted true as a bool
    attention: Annotated[Literal["none", "true", "authors"], BeforeValidator(lambda x: "true" if x is True else x)]


class SACCrops(sac.SAC):
    """SAC whose actor and critics begin with an encoder each."""

    config: Config
    observation_space: spaces.Dict
    features = staticmethod(see)

    def __init__(self, config: Config, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        self.target_critic.net.eval()

    def networks(self) -> tuple[nn.Module, nn.Module]:
        attention, hidden, space = self.config.attention, self.config.hidden, self.observation_space
        actor = Encoded(encoder(space, attention), SquashedGaussian(FEATURES, self.action_size, hidden))
        critics = Encoded(encoder(space, attention), Critics(2, FEATURES, self.action_size, hidden))
        return actor, critics

    def act(self, obs: Any, *, explore: bool, gen: Generator) -> NDArray:
        self.actor.eval()
        return super().act(obs, explore=explore, gen=gen)

    def update(self, batch: Batch) -> Mapping[str, Tensor]:
        self.actor.train()
        # no gradient is computed for what a loss does not train: not for the critics' encoder in the actor's
        return super().update(batch)

    def replay_buffer(self) -> CropReplay:
        c = self.config
        sampling = Sampling(c.batch_size, c.learning_starts, c.updates_per_env_step, c.gamma, c.sample_with_replacement)
        return CropReplay(
            self.observation_space, self.action_space, capacity=c.replay_size, n_envs=c.n_envs, sampling=sampling
        )


AGENT = SACCrops

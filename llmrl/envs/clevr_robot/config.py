"""The options of CLEVR-Robot; conf/env/clevr_robot/ has their values."""

from dataclasses import dataclass, field
from typing import Literal

from llmrl.checks import Count, NonNegative
from llmrl.contracts.env import Task
from llmrl.envs import text
from llmrl.envs.clevr_robot.goals import Tier


@dataclass(frozen=True)
class Config:
    suite: str
    goals: Tier
    max_episode_steps: Count
    easy_judge: Literal["action", "state"]
    radius_tolerance: NonNegative
    obs_velocity: bool
    stale_first_push: bool
    task: Task
    language: str | None = field(metadata={"neutral": None})

    def __post_init__(self) -> None:
        if self.language is not None:
            text.check_name(self.language)
            if self.goals == "google":
                raise ValueError("language: Google's goals have no words; use language=null, or other goals")

    @property
    def frames_per_step(self) -> int:
        return 1

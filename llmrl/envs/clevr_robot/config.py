"""The options of CLEVR-Robot; conf/env/clevr_robot/ has their values."""

from dataclasses import dataclass
from typing import Literal

from llmrl.checks import Count, NonNegative
from llmrl.envs.base import Task
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

    @property
    def frames_per_step(self) -> int:
        return 1

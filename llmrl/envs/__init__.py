"""One file per suite; `conf/env/<suite>/<task>.yaml` holds a task and what an LLM is told of it.

`import llmrl.envs` makes our own environments known to Gymnasium: llmrl/PickPlace-v0, llmrl/ClevrRobot-v0.
"""

import gymnasium as gym

for name, maker in {"PickPlace": "pick_place", "ClevrRobot": "clevr_robot"}.items():
    if f"llmrl/{name}-v0" not in gym.registry:
        gym.register(f"llmrl/{name}-v0", entry_point=f"llmrl.gymnasium_ids:{maker}")

"""Our environments have Gymnasium ids, which cost the other commands nothing."""

import subprocess
import sys

import pytest
from conftest import ROOT

IDS = ["llmrl/PickPlace-v0", "llmrl/ClevrRobot-v0"]


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize("imports", ["import gymnasium, llmrl", "import llmrl.gymnasium_ids, gymnasium"])
def test_an_environment_is_made_by_its_id(name, imports):
    assert python(f"{imports}; env = gymnasium.make('{name}'); print(len(env.reset(seed=0)))") == "2"


def test_the_package_alone_does_not_import_gymnasium():
    assert python("import sys, llmrl.cli, llmrl.commands.list; print('gymnasium' in sys.modules)") == "False"

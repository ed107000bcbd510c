"""scripts/peers.py: what bench_training.py measures us against."""

import sys
import time
from collections.abc import Iterator

import pytest
import yaml
from conftest import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
import peers  # noqa: E402


@pytest.fixture
def process() -> Iterator[peers.Process]:
    found = peers.Process("stable-baselines3", "dqn_cartpole")
    yield found
    found.close()
    assert found.child.returncode == 0


def test_a_peer_trains_when_it_is_asked_and_waits_otherwise(process):
    clock = ~process.child.pid << 3 | 2  # Linux's number for the clock of a process

    def seconds(env_steps: int) -> float:
        start = time.clock_gettime(clock)
        process(env_steps)
        return time.clock_gettime(clock) - start

    seconds(peers.WARM_UP)
    short, long = seconds(40), seconds(800)
    assert long > 4 * short
    waiting = time.clock_gettime(clock)
    time.sleep(0.2)
    assert time.clock_gettime(clock) - waiting < 0.05


def test_a_peer_that_cannot_start_is_an_error(capfd):
    with pytest.raises(RuntimeError, match="ended early"):
        peers.Process("stable-baselines3", "no_such_case")
    assert "invalid choice: 'no_such_case'" in capfd.readouterr().err


@pytest.mark.parametrize("agent, case", [("td3", "td3"), ("sac", "sac"), ("dqn", "dqn_cartpole")])
def test_peers_have_our_hyper_parameters(agent, case):
    ours, theirs = yaml.safe_load((ROOT / f"conf/agent/{agent}.yaml").read_text()), peers.CASES[case].settings
    assert theirs["batch_size"] == ours["batch_size"]
    assert theirs["train_freq"] == 1 / ours["updates_per_env_step"]
    assert theirs["policy_kwargs"]["net_arch"] == ours["hidden"]
    assert theirs["learning_rate"] == float(ours.get("critic_learning_rate", ours.get("learning_rate")))

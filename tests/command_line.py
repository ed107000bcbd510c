"""The fixture `llmrl` of the tests of the command line."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Done
from hydra.core.global_hydra import GlobalHydra

from llmrl import cli


@pytest.fixture(name="llmrl")
def in_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> Callable[..., Done]:
    """`llmrl <args>` in this process, with tmp_path as the working directory."""
    monkeypatch.chdir(tmp_path)

    def call(*args: str) -> Done:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["llmrl", *args])
        GlobalHydra.instance().clear()
        try:
            code = cli.main(list(args))
        except SystemExit as end:
            code = end.code
        captured = capfd.readouterr()
        return Done(code, captured.out, captured.err)

    return call

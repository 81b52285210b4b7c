"""Shared by the tests of the tools: generated scenes."""

import pytest

from mimseg.cli.scenes import main as make_scenes


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    """Four scenes to train on, two for each of validation and test, eight without labels."""
    out = tmp_path_factory.mktemp("data") / "scenes"
    counts = ["--train", "4", "--val", "2", "--test", "2", "--unlabelled", "8"]
    assert make_scenes([str(out), *counts, "--seed", "0", "--workers", "1"]) in (0, None)
    return out

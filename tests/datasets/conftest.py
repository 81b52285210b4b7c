import pytest

from mimseg.datasets.scene_writer import write_scenes
from mimseg.datasets.scenes import SceneConfig

COUNTS = {"train": 6, "val": 3, "unlabelled": 4}


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    """A small generated data set, not to be changed: copy it first."""
    out = tmp_path_factory.mktemp("data") / "scenes"
    assert write_scenes(out, COUNTS, seed=3, config=SceneConfig(size=64))
    return out

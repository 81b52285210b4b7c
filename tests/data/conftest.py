import pytest

from mimseg.data.scenes.draw import SceneConfig
from mimseg.data.scenes.write import write_scenes

COUNTS = {"train": 6, "val": 3, "unlabelled": 4}


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    """A small generated data set, not to be changed: copy it first."""
    out = tmp_path_factory.mktemp("data") / "scenes"
    assert write_scenes(out, COUNTS, seed=3, config=SceneConfig(size=64))
    return out

"""Ships configs/ as mimseg/configs; everything else is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConfigs(build_py):
    """Copies the configs into a built package; an editable install reads the checkout's."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            configs = Path(self.build_lib, "mimseg/configs")
            shutil.rmtree(configs, ignore_errors=True)
            shutil.copytree("configs", configs, ignore=shutil.ignore_patterns("__pycache__"))


setup(cmdclass={"build_py": BuildWithConfigs})

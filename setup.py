"""Ships configs/ as mimseg/configs; everything else is in pyproject.toml."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["mimseg*"]), "mimseg.configs"],
    package_dir={"mimseg.configs": "configs"},
    package_data={"mimseg": ["py.typed", "benchmark/report.css"], "mimseg.configs": ["**/*.py"]},
    include_package_data=False,  # setuptools would take the folders of configs for packages
)

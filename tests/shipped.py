"""The configs that the repository ships, apart from what a user has put beside them."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]


def shipped_configs(below="configs", root=ROOT):
    """Paths of the Python files in git's index below a folder of the repository, sorted."""
    argv = ["git", "ls-files", "-z", "--", below]
    done = subprocess.run(argv, cwd=root, capture_output=True, text=True)
    if done.returncode:  # an unpacked archive has no index
        return sorted((root / below).rglob("*.py"))
    names = (name for name in done.stdout.split("\0") if name.endswith(".py"))
    return sorted(path for path in map(root.joinpath, names) if path.exists())

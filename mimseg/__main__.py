"""Run another toolkit's script with mimseg imported first: `python -m mimseg SCRIPT [ARGS]`.

Reason: a script that imports mmdet's models before it reads its config, as mmdetection's own
test.py does, ends in "No module named 'mmcv._ext'" with an mmcv that has no compiled ops. The
config's `custom_imports` comes too late for it. It can go when mmdet guards that import.
"""

import runpy
import sys
from pathlib import Path

import mimseg  # noqa: F401

if len(sys.argv) < 2 or not Path(sys.argv[1]).is_file():
    sys.exit("error: python -m mimseg SCRIPT [ARGS]: SCRIPT must be a Python file")
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")

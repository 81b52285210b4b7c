"""Format a config's text once."""

from __future__ import annotations

from functools import wraps
from types import ModuleType


def format_once(api: ModuleType) -> None:
    """Let yapf remember what it formatted last.

    Reason: mmengine asks yapf for the text of a run's whole config about five times (log, dump,
    visualizer, every checkpoint), and each time costs up to a second. It can go when mmengine keeps
    the text.

    Args:
        api: the module yapf.yapflib.yapf_api, whose FormatCode mmengine calls.
    """
    format_code, last = api.FormatCode, {}

    @wraps(format_code)
    def format_changed(*args: object, **options: object) -> object:
        key = (args, repr(sorted(options.items())))
        if key not in last:
            result = format_code(*args, **options)
            last.clear()
            last[key] = result
        return last[key]

    api.FormatCode = format_changed

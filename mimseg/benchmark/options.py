"""Config changes as words of a command line."""

from __future__ import annotations

from typing import Any

from mimseg.errors import UserError


def cfg_options(options: dict[str, Any]) -> list[str]:
    """`--cfg-options a.b=c ...`, or nothing where there is nothing to change."""
    return ["--cfg-options", *cfg_values(options)] if options else []


def cfg_values(options: dict[str, Any]) -> list[str]:
    """['a.b=c', ...] as mmengine's DictAction reads them.

    Raises:
        UserError: a value that DictAction would read as something else.
    """
    return [f"{key}={_word(key, value)}" for key, value in options.items()]


def point_options(task: dict[str, Any], point: dict[str, Any]) -> dict[str, Any]:
    """The config changes of a grid point, by the task's `grid_keys` (one key or several each).

    Raises:
        UserError: the point has a key that `grid_keys` does not map.
    """
    keys = task.get("grid_keys", {})
    found: dict[str, Any] = {}
    for name, value in point.items():
        if name not in keys:
            raise UserError(
                "grid", name, expected=f"one of grid_keys {list(keys)}", fix="add it to grid_keys"
            )
        targets = [keys[name]] if isinstance(keys[name], str) else keys[name]
        found.update({target: value for target in targets})
    return found


def _word(key: str, value: Any) -> str:
    if isinstance(value, dict):
        raise UserError(
            f"options[{key!r}]", value, expected="a plain value", fix="write 'key.inner=value' keys"
        )
    if isinstance(value, (list, tuple)):
        inner = ",".join(_word(key, item) for item in value)
        return f"({inner})" if isinstance(value, tuple) else f"[{inner}]"
    if isinstance(value, str) and any(mark in value for mark in " ,[]()"):
        raise UserError(
            f"options[{key!r}]", value, expected="a text without spaces, commas and brackets"
        )  # mmengine's DictAction drops the first and splits at the others
    return str(value)

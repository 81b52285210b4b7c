"""Reports mistakes that a user can correct."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable


class UserError(ValueError):
    """A mistake in a config, a path or data, reported in one line.

    The commands print the message alone and exit with code 2; from Python it is a ValueError.

    Args:
        key: the config key, flag or file at fault.
        value: the value that it has.
        expected: the value that would be right, in words.
        fix: what to do about it; left out where nothing useful can be said.
    """

    def __init__(
        self, key: str, value: object = None, *, expected: str | None = None, fix: str = ""
    ) -> None:
        self.key, self.value, self.expected, self.fix = key, value, expected, fix
        if expected is None:  # torch rebuilds a loader process's error from its traceback alone
            super().__init__(key.rsplit("UserError: ", 1)[-1].strip())
            return
        message = f"{key} = {value!r}: expected {expected}."
        super().__init__(f"{message} Fix: {fix}" if fix else message)

    def __reduce__(self):  # ValueError's own would pass the message for the key
        return _rebuild, (type(self), self.key, self.value, self.expected, self.fix)


class EndOfRun(Exception):
    """A run that ends early for a reason of its own, reported in one line.

    Args:
        message: why it ended and what to do, for the console.
        code: the command's exit code.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code

    def __reduce__(self):
        return type(self), (str(self), self.code)


def _rebuild(
    kind: type[UserError], key: str, value: object, expected: str | None, fix: str
) -> UserError:
    return kind(key, value, expected=expected, fix=fix)


def require_choice(key: str, value: object, choices: Iterable, fix: str = "") -> None:
    """Raise UserError unless `value` is one of `choices`."""
    choices = list(choices)
    if value not in choices:
        raise UserError(key, value, expected=f"one of {choices}", fix=fix)


def require_at_least(key: str, value: float, least: float, fix: str = "") -> None:
    """Raise UserError unless `value` is `least` or more."""
    if not value >= least:
        raise UserError(key, value, expected=f"at least {least}", fix=fix)


def require_positive(key: str, value: float, fix: str = "") -> None:
    """Raise UserError unless `value` is above 0."""
    if not value > 0:
        raise UserError(key, value, expected="a number above 0", fix=fix)


def exit_code(run: Callable[[], int | None], stopped: str | None = None) -> int:
    """Run a command line and report a user's mistake in one line.

    Args:
        run: gives an exit code, or None for 0.
        stopped: what to say when it is interrupted; None lets the interruption through.

    Returns:
        run's code, 2 after a `UserError`, an `EndOfRun`'s own, 130 when interrupted.
    """
    try:
        return run() or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except EndOfRun as end:
        print(end, file=sys.stderr)
        return end.code
    except KeyboardInterrupt:
        if stopped is None:
            raise
        print(stopped, file=sys.stderr)
        return 130

"""The error for mistakes a user can mend."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class UserError(ValueError):
    """A mistake in a config, a path or data, told in one line.

    The tools print the message alone and exit with code 2; from Python it is a ValueError.

    Args:
        key: the config key, flag or file at fault.
        value: what was found there.
        expected: what was expected instead.
        fix: what to do about it; left out where nothing useful can be said.
    """

    def __init__(
        self, key: str, value: object = None, expected: str | None = None, fix: str = ""
    ) -> None:
        self.key, self.value, self.expected, self.fix = key, value, expected, fix
        if expected is None:  # torch makes a loader process's error anew from its traceback alone
            super().__init__(key.rsplit("UserError: ", 1)[-1].strip())
            return
        message = f"{key} = {value!r}: expected {expected}."
        super().__init__(f"{message} Fix: {fix}" if fix else message)

    def __reduce__(self):  # ValueError's own would pass the message for the key
        return UserError, (self.key, self.value, self.expected, self.fix)


@contextmanager
def unknown_type_told() -> Iterator[None]:
    """Within the block, tell a type that no registry knows as a UserError."""
    try:
        yield
    except KeyError as error:
        if "is not in the" not in str(error):
            raise
        message = str(error.args[0]).split(". ")[0]
        raise UserError(
            "type", message, "a type that is registered", "check its scope and name"
        ) from None


def exit_code(run: Callable[[], int | None], stopped: str | None = None) -> int:
    """Run a command line and tell a user's mistake in one line.

    Args:
        run: gives an exit code, or None for 0.
        stopped: what to say when it is interrupted; None lets the interruption through.

    Returns:
        run's code, 2 after a `UserError`, 130 when interrupted.
    """
    try:
        return run() or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        if stopped is None:
            raise
        print(stopped, file=sys.stderr)
        return 130

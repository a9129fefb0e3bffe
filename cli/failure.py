"""How does a command end that cannot do what it was asked for? Without what speaks to an agent, which is slow to import."""

import sys


class CommandFailed(Exception):
    """Tell the user and exit with `code`."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


def fail(error: Exception) -> int:
    """Prints the error in one line; the exit code."""
    sys.stderr.write(f"Error: {error}\n")
    return getattr(error, "code", 1)

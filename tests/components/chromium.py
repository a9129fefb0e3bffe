"""Where does a real browser come from? Debian's Chromium, installed when it is not there."""

from pathlib import Path

from tests.components.debian import command

# As root it has no sandbox of its own; and it must not look for anything on its own account.
ARGUMENTS = (
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
)


def chromium() -> Path:
    """The browser's path. Raises ComponentMissing."""
    return command("chromium", "chromium")

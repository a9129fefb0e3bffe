"""Who of this machine does a task run as?"""

import pwd

from model.errors import TaskRefused

# Whom an isolated task runs as that names nobody; Nomad's.
DEFAULT_USER = "nobody"
ISOLATING = ("exec", "java")


def of_task(user: str, driver: str) -> str:
    """A name or a number. Empty: whoever the agent is, or whoever the image says."""
    return user or (DEFAULT_USER if driver in ISOLATING else "")


def user_of(user: str) -> tuple[int, int]:
    """(user, group) of a name or a number. Raises TaskRefused for somebody who is not known here."""
    try:
        entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except (KeyError, OverflowError) as error:
        raise TaskRefused(f"user {user!r} does not exist on this machine") from error
    return entry.pw_uid, entry.pw_gid

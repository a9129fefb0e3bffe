"""Which signals can a task be sent?

Linux' by name, with or without SIG; a container engine also takes a number and counts from the real-time
signals' ends (systemd in a container wants SIGRTMIN+3). Nomad takes any name and finds out at the kill.
"""

import re

from jobspec.suggest import did_you_mean

NAMES = (
    *("SIGABRT", "SIGALRM", "SIGBUS", "SIGCHLD", "SIGCONT", "SIGFPE", "SIGHUP", "SIGILL", "SIGINT", "SIGIO"),
    *("SIGKILL", "SIGPIPE", "SIGPROF", "SIGPWR", "SIGQUIT", "SIGSEGV", "SIGSTKFLT", "SIGSTOP", "SIGSYS"),
    *("SIGTERM", "SIGTRAP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGURG", "SIGUSR1", "SIGUSR2", "SIGVTALRM"),
    *("SIGWINCH", "SIGXCPU", "SIGXFSZ", "SIGIOT", "SIGPOLL", "SIGCLD", "SIGRTMIN", "SIGRTMAX"),
)
_ENGINES_OWN = re.compile(r"\d{1,2}|(SIG)?RT(MIN(\+\d{1,2})?|MAX(-\d{1,2})?)", re.IGNORECASE)


def signal_fault(name: str, driver: str) -> str:
    """What is wrong with a signal's name; empty for a good one, for none and for one with a reference."""
    upper = name.upper()
    known = upper if upper.startswith("SIG") else f"SIG{upper}"
    if not name or "${" in name or known in NAMES:
        return ""
    if driver not in ("raw_exec", "exec", "java") and _ENGINES_OWN.fullmatch(name):
        return ""
    return f'there is no signal "{name[:60]}"{did_you_mean(known, NAMES)}'

# Only what model.patterns calls. A compiled pattern has the part of re.Pattern's interface that we use.
from re import Pattern

class Options:
    log_errors: bool

class error(Exception): ...

def compile(pattern: str, options: Options) -> Pattern[str]: ...

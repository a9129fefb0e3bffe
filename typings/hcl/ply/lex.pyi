from typing import Any

class LexToken:
    type: str
    value: Any
    lineno: int
    lexpos: int

from collections.abc import Callable

from hcl.ply.lex import LexToken

class LRParser:
    errorfunc: Callable[[LexToken | None], None]
    def parse(self, input: str, lexer: object) -> object: ...

from collections.abc import Callable, Sequence

from hcl.ply.yacc import LRParser

class HclParser:
    yacc: LRParser
    objectlist_flat: Callable[[Sequence[tuple[object, object]], bool], object]

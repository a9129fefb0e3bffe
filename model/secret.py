"""How is a secret kept from being shown?"""

import hmac


class Secret:
    """A secret text that prints as dots; reveal() only where it is handed to the other side."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        # Takes as long for a wrong one as for the right one.
        return isinstance(other, Secret) and hmac.compare_digest(_bytes(self), _bytes(other))

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "••••••••"

    __str__ = __repr__


def _bytes(secret: Secret) -> bytes:
    return secret.reveal().encode("utf-8", "surrogateescape")

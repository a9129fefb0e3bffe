from typing import Any

class RawAdapter:
    base_uri: str
    token: str | None
    namespace: str | None
    session: Any
    def __init__(
        self,
        base_uri: str = ...,
        *,
        verify: bool | str = ...,
        allow_redirects: bool = ...,
        strict_http: bool = ...,
    ) -> None: ...
    def request(self, method: str, url: str, headers: dict[str, str] | None = ..., raise_exception: bool = ..., **kwargs: Any) -> Any: ...
    def close(self) -> None: ...

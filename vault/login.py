"""Which token does drover itself hold, and how does it come by the next one?

Three ways: a token that was given, a file in which somebody else keeps a fresh one, AppRole. run() keeps it for as long
as the process lives:

    none ──log in, read──> held ──half of its life──> renewed
      ^                     │ cannot be renewed any more (AppRole)  ──> log in again
      └── it ended <────────┘ the file changed                     ──> read again

Nothing here ends because Vault is away or says no: it is tried again, and token() says what is wrong meanwhile. An old
token is never revoked: tokens of tasks may be its children, and would go with it.
"""

import asyncio
import logging
import math
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import assert_never

from catalog.outage import Outage
from model.errors import DroverError, VaultRefused, VaultUnavailable
from model.secret import Secret
from vault import telemetry
from vault.client import Health, VaultClient

log = logging.getLogger("drover.vault")

# Between tries while Vault does not answer: a task that waits for it starts within two seconds of its return.
_RETRY_S = 1.0
# Between tries while Vault answers no: an operator changes a policy, a role or a file meanwhile.
_REFUSED_S = 5.0
# How often a token file is looked at (one stat).
_FILE_S = 1.0
# Between questions about Vault's health while it is well.
_HEALTH_S = 10.0
# At most so long between renewals or looks at the token, however long it lives: it may be revoked at any time.
_LOOK_S_MAX = 3600.0
_LOOK_S_MIN = 0.25
# Share of a token's life after which it is renewed, and how far that is spread, so that a fleet does not come at once.
_HALF, _SPREAD = 0.5, 0.1
# A renewal that gives less than this share of what the token had when it was new has hit its greatest age.
_WORN_SHARE = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    token: Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFile:
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class AppRole:
    """secret_id_file: read at each login; None: the role asks for none."""

    role_id: str
    secret_id_file: Path | None
    mount: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NoToken:
    """None is configured."""


Way = Given | TokenFile | AppRole | NoToken


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """ends_s: loop time, math.inf: never. life_s: of a fresh one. look_s: loop time of its
    next renewal. stamp: of the file that it was read from."""

    token: Secret
    accessor: str
    ends_s: float
    life_s: float
    renewable: bool
    policies: tuple[str, ...]
    look_s: float = 0.0
    stamp: tuple[int, ...] = ()


@dataclass(slots=True, kw_only=True)
class Login:
    """client: for whoever asks with a token. own_client: for what is asked here; None: the same one. What hundreds of
    tasks ask of a slow Vault must not hold up the renewal of the one token that they all hang on.
    health: as it was last seen; None: never asked yet."""

    client: VaultClient
    way: Way
    own_client: VaultClient | None = None
    rng: random.Random = field(default_factory=random.SystemRandom)
    health: Health | None = None
    held: Held | None = None
    version: str = ""  # of Vault, once known
    _error: DroverError | None = None
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _look: asyncio.Event = field(default_factory=asyncio.Event)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    def token(self) -> Secret:
        """The current one. Raises VaultUnavailable, VaultRefused with the reason why there is none."""
        if self.held is not None and _now_s() < self.held.ends_s:
            return self.held.token
        match self._error:
            case VaultRefused():
                raise VaultRefused(str(self._error))
            case None:
                raise VaultUnavailable("drover has not reached Vault yet")
            case _:
                raise VaultUnavailable(str(self._error))

    @property
    def contact_age_s(self) -> float | None:
        """Since Vault last answered something of use; None: it never did."""
        ages = [one.contact_age_s for one in (self.client, self.own_client) if one is not None]
        return min((age for age in ages if age is not None), default=None)

    @property
    def _asked(self) -> VaultClient:
        return self.own_client or self.client

    @property
    def error(self) -> str:
        """What went wrong last with drover's own token; empty: nothing."""
        return str(self._error) if self._error is not None else ""

    @property
    def ttl_s(self) -> float:
        """Until the own token ends: 0 for none, math.inf for never."""
        return 0.0 if self.held is None else max(0.0, self.held.ends_s - _now_s())

    def doubt(self) -> None:
        """Something that was asked of Vault came to nothing: look at the token and at Vault now, not when it is time."""
        self._wake.set()
        self._look.set()

    async def ready(self) -> Secret:
        """Waits until Vault can serve and there is a token, however long that takes."""
        async with self._changed:
            await self._changed.wait_for(self._is_ready)
        return self.token()

    async def usable(self) -> None:
        """Waits until Vault can serve, whether or not drover has a token."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.health is not None and self.health.is_usable)

    def _is_ready(self) -> bool:
        is_usable = self.health is not None and self.health.is_usable
        return is_usable and self.held is not None and _now_s() < self.held.ends_s

    async def run(self) -> None:
        """Keeps the token and looks after Vault's health. Ends only when cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch(), name="vault health")
            if isinstance(self.way, NoToken):
                self._error = VaultRefused("drover has no Vault token: set token, token_file or role_id in its vault block")
            else:
                tasks.create_task(self._keep(), name="vault token")

    # ---- Vault's health

    async def _watch(self) -> None:
        outage = Outage(log)
        while True:
            try:
                found = await self._asked.health()
            except Exception:
                log.exception("Vault's health could not be asked for")
                await asyncio.sleep(self._spread(_HEALTH_S))
                continue
            was_usable = self.health is not None and self.health.is_usable
            self.health = found
            self.version = found.version or self.version
            if found.is_usable:
                outage.passed("Vault can be used again")
                if not was_usable and self._error is not None:
                    self._wake.set()  # what waits for Vault need not wait longer
                await self._tell()
            else:
                outage.failed("Vault cannot be used", VaultUnavailable(found.message or found.state))
            self._look.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._spread(_HEALTH_S if found.is_usable else _RETRY_S)):
                    await self._look.wait()

    # ---- drover's token

    async def _keep(self) -> None:
        outage = Outage(log)
        while True:
            self._wake.clear()
            try:
                self.held = await self._next()
            except VaultUnavailable as error:
                self._failed(outage, error)
                await self._pause(self._spread(_RETRY_S))
            except VaultRefused as error:
                self._failed(outage, error)
                await self._pause(self._spread(_REFUSED_S))
            except Exception:
                # A bug of ours: nothing else may suffer, and it is told each time.
                log.exception("drover's Vault token could not be looked after")
                await self._pause(self._spread(_REFUSED_S))
            else:
                self._error = None
                outage.passed("drover has a Vault token again")
                if self.health is None or not self.health.is_usable:
                    self._look.set()  # Vault answered the token: it is better than it was
                await self._tell()
                await self._pause(self.held.look_s - _now_s())

    def _failed(self, outage: Outage, error: VaultUnavailable | VaultRefused) -> None:
        self._error = error
        if self.held is not None and _now_s() >= self.held.ends_s:
            self.held = None
        outage.failed("drover's Vault token", error)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _next(self) -> Held:
        """The token to hold from now on. Raises VaultUnavailable, VaultRefused."""
        held = self.held
        match self.way:
            case Given(token=token):
                return await self._kept(held) if held is not None else await self._looked_up(token)
            case TokenFile(path=path):
                token, stamp = _read(path)
                if held is None or held.stamp != stamp:
                    return await self._looked_up(token, stamp)
                return await self._kept(held)
            case AppRole() as role:
                if held is None or _is_worn(held):
                    return await self._logged_in(role)
                try:
                    return await self._kept(held)
                except VaultRefused:  # revoked, or at its greatest age
                    return await self._logged_in(role)
            case NoToken():
                raise VaultRefused("drover has no Vault token")
        assert_never(self.way)

    async def _looked_up(self, token: Secret, stamp: tuple[int, ...] = ()) -> Held:
        asked_s = _now_s()
        facts = await self._asked.lookup_self(token)
        held = Held(
            token=token,
            accessor=facts.accessor,
            ends_s=math.inf if facts.is_endless else asked_s + facts.ttl_s,
            life_s=facts.creation_ttl_s,
            renewable=facts.renewable,
            policies=facts.policies,
            stamp=stamp,
        )
        return self._timed(held, asked_s)

    async def _kept(self, held: Held) -> Held:
        """Renewed where that can be, else looked at: it may have been revoked."""
        asked_s, ttl_s = _now_s(), 0.0
        try:
            if held.renewable and held.ends_s != math.inf:
                ttl_s = await self._asked.renew_self(held.token)
        except VaultRefused:
            log.debug("Vault refuses to renew drover's token: is it one still?")
        if not ttl_s:
            try:
                return await self._looked_up(held.token, held.stamp)
            except VaultRefused:
                self.held = None
                raise
        renewed = replace(held, ends_s=asked_s + ttl_s)
        if _is_worn(renewed) and not _is_worn(held) and not isinstance(self.way, AppRole):
            log.warning("drover's Vault token ends in %.0f s: it has reached its greatest age, give it another one", ttl_s)
        return self._timed(renewed, asked_s)

    async def _logged_in(self, role: AppRole) -> Held:
        asked_s = _now_s()
        secret_id = Secret("") if role.secret_id_file is None else _read(role.secret_id_file)[0]
        made = await self._asked.login_approle(role.role_id, secret_id, role.mount)
        telemetry.LOGINS.inc()
        held = Held(
            token=made.secret,
            accessor=made.accessor,
            ends_s=asked_s + made.ttl_s if made.ttl_s else math.inf,
            life_s=made.ttl_s,
            renewable=made.renewable,
            policies=made.policies,
        )
        return self._timed(held, asked_s)

    def _timed(self, held: Held, asked_s: float) -> Held:
        """With the moment of its next renewal or look: half of what it has left, spread."""
        left_s = held.ends_s - asked_s
        share = _HALF + self.rng.uniform(-_SPREAD, _SPREAD)
        look_s = asked_s + min(max(left_s * share, _LOOK_S_MIN), self._spread(_LOOK_S_MAX))
        return replace(held, look_s=look_s)

    # ---- waiting

    async def _pause(self, pause_s: float) -> None:
        """Until then, or until there is a reason to look sooner: doubt(), a changed file."""
        until_s = _now_s() + pause_s
        changed = _changes(self.way)
        while (left_s := until_s - _now_s()) > 0 and not changed():
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, _FILE_S) if isinstance(self.way, TokenFile) else left_s):
                    await self._wake.wait()
                    return

    def _spread(self, span_s: float) -> float:
        return span_s * self.rng.uniform(1 - _SPREAD, 1.0)


def _now_s() -> float:
    return asyncio.get_running_loop().time()


def _is_worn(held: Held) -> bool:
    """Whether it lives on for much less than when it was new, although it was just renewed."""
    return held.ends_s - _now_s() < held.life_s * _WORN_SHARE


def _read(path: Path) -> tuple[Secret, tuple[int, ...]]:
    """The token or secret in a file, and what changes when the file does. Raises VaultRefused."""
    try:
        stamp = _stamp(path)
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise VaultRefused(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'not text'}") from error
    if not text:
        raise VaultRefused(f"{path} is empty")
    return Secret(text), stamp


def _stamp(path: Path) -> tuple[int, ...]:
    found = path.stat()
    return (found.st_mtime_ns, found.st_ino, found.st_size)


def _changes(way: Way) -> Callable[[], bool]:
    """Says whether the token file is another one than now."""
    if not isinstance(way, TokenFile):
        return lambda: False
    path = way.path

    def stamp() -> tuple[int, ...]:
        with suppress(OSError):
            return _stamp(path)
        return ()

    before = stamp()
    return lambda: stamp() != before


"""The key packages of this device: made, kept, published, and destroyed (docs/protocol.md, section 10.4).

    key package   made --kept--> unpublished --accepted--> published --welcome--> used: destroyed at once
                                                           published --35 days after its end--> destroyed
    last resort   made --kept--> unpublished --accepted--> published --welcome--> used, and stays
                                                           used, or 60 days old --next one published--> replaced
                                                           replaced --35 days--> destroyed

Rule: publish, then destroy. A welcome may be on its way to a package that the server does not hand out any more, so
private halves stay for longer than a mailbox keeps anything. A package whose answer got lost stays unpublished here,
and works all the same.
"""

from collections.abc import Callable

from attrs import define, evolve, field

from ironwire.crypto.signing import KeyPair
from ironwire.e2e.conversations.effects import DropPackage, SavedPackage, Steps, Write, ask
from ironwire.limits import PACKAGES_AT_ONCE
from ironwire.mls import KeyPackagePrivate, Lifetime, make_key_package
from ironwire.mls.public import cut_welcome
from ironwire.protocol.conversations.key_packages import EARLY_SECONDS, LIFETIME_SECONDS, POOL_PACKAGES
from ironwire.wire.base64url import to_base64url
from ironwire.wire.messages import Accepted, Error
from ironwire.wire.messages.key_packages import MlsPackages, MlsPool, MlsPublish

DAY_MS = 86_400_000
KEPT_MS = 35 * DAY_MS
"""Longer than a mailbox keeps a welcome."""
LAST_RESORT_MS = 60 * DAY_MS
"""After this another one takes its place."""


@define(eq=False)
class KeyPackagePool:
    """Private halves on this device, and what is to be published of them."""

    _key: KeyPair = field(repr=False)
    _certificate: bytes
    _now_ms: Callable[[], int]
    _write: Callable[[Write], None]
    _kept: dict[bytes, SavedPackage] = field(factory=dict, init=False)
    _is_publishing: bool = field(default=False, init=False)

    def restore(self, saved: SavedPackage) -> None:
        self._kept[saved.ref] = saved

    # --- using them --------------------------------------------------------------------------------------------------

    def find(self, welcome: bytes) -> tuple[KeyPackagePrivate, SavedPackage] | None:
        """The package that a welcome is for.

        Raises:
            MLSError: it is no welcome.
        """
        secrets, _ = cut_welcome(welcome)
        saved = next((self._kept[ref] for ref in secrets if ref in self._kept), None)
        return None if saved is None else (KeyPackagePrivate.decode(saved.data), saved)

    def use(self, saved: SavedPackage) -> None:
        """A welcome has been opened with it."""
        if saved.is_last_resort:
            self._save(evolve(saved, is_used=True))
        else:
            self._drop(saved)

    def make_own(self) -> KeyPackagePrivate:
        """One for a group that this device makes: it is neither kept nor published."""
        return make_key_package(self._key, self._certificate, self._lifetime())

    # --- publishing --------------------------------------------------------------------------------------------------

    @property
    def is_published(self) -> bool:
        """Whether the server has had a last resort of this device. From then on others can write to it."""
        return any(each.is_last_resort and each.is_published for each in self._kept.values())

    def publishing(self) -> Steps[bool]:
        """Fill the pool, and replace a last resort that was used or is old; destroy what nobody can use any more.
        Whether that could be done.
        """
        if self._is_publishing:
            return True
        self._is_publishing = True
        try:
            self._destroy()
            pool = yield from ask(MlsPackages(), MlsPool)
            return isinstance(pool, MlsPool) and (yield from self._fill(pool))
        finally:
            self._is_publishing = False

    def _fill(self, pool: MlsPool) -> Steps[bool]:
        made = [self._make(is_last_resort=False) for _ in range(POOL_PACKAGES - pool.count)]
        if not pool.last_resort or self._needs_last_resort:
            made.append(self._make(is_last_resort=True))
        for start in range(0, len(made), PACKAGES_AT_ONCE):
            part = made[start : start + PACKAGES_AT_ONCE]
            public = [to_base64url(KeyPackagePrivate.decode(each.data).public) for each in part]
            reply = yield from ask(MlsPublish(public), Accepted)
            if isinstance(reply, Error):
                return False
            for saved in part:
                self._publish(saved)
        return True

    @property
    def _needs_last_resort(self) -> bool:
        last = [each for each in self._kept.values() if each.is_last_resort and each.is_published]
        newest = max(last, key=lambda each: each.made_at, default=None)
        return newest is None or newest.is_used or newest.made_at + LAST_RESORT_MS <= self._now_ms()

    def _make(self, *, is_last_resort: bool) -> SavedPackage:
        lifetime, now = self._lifetime(), self._now_ms()
        package = make_key_package(self._key, self._certificate, lifetime, last_resort=is_last_resort)
        destroy_at = lifetime.not_after * 1000 + KEPT_MS
        saved = SavedPackage(package.ref, package.encode(), is_last_resort, now, destroy_at)
        self._save(saved)
        return saved

    def _lifetime(self) -> Lifetime:
        """As long as it may be. It begins a day ago, for those whose clock is behind."""
        begin = self._now_ms() // 1000 - EARLY_SECONDS
        return Lifetime(begin, begin + LIFETIME_SECONDS)

    def _publish(self, saved: SavedPackage) -> None:
        if saved.ref in self._kept:
            self._save(evolve(self._kept[saved.ref], is_published=True))
        if saved.is_last_resort:
            until = self._now_ms() + KEPT_MS
            for each in [*self._kept.values()]:
                if each.is_last_resort and each.ref != saved.ref and each.destroy_at > until:
                    self._save(evolve(each, destroy_at=until))

    def _destroy(self) -> None:
        for saved in [each for each in self._kept.values() if each.destroy_at <= self._now_ms()]:
            self._drop(saved)

    def _save(self, saved: SavedPackage) -> None:
        self._kept[saved.ref] = saved
        self._write(saved)

    def _drop(self, saved: SavedPackage) -> None:
        self._kept.pop(saved.ref, None)
        self._write(DropPackage(saved.ref))

"""The pool of key packages of a device, from their making to their destruction."""

from typing import Any

from attrs import define, field

from ironwire.crypto.signing import DeviceKey, Identity
from ironwire.e2e.conversations import effects as fx
from ironwire.e2e.conversations.packages import DAY_MS, KEPT_MS, LAST_RESORT_MS, KeyPackagePool
from ironwire.mls import KeyPackagePrivate, MLSGroup, Policy, open_key_package
from ironwire.protocol.conversations.key_packages import POOL_PACKAGES, Offer, fault_of
from ironwire.protocol.conversations.slots import Leaf
from ironwire.protocol.devices.certificate import issue_certificate
from ironwire.wire.base64url import from_base64url
from ironwire.wire.messages import Accepted, Error
from ironwire.wire.messages.key_packages import MlsPackages, MlsPool, MlsPublish
from tests.playbook import NOW_MS

ALICE, KEY = Identity.from_seed(b"a" * 32), DeviceKey.from_seed(b"p" * 32)
CERTIFICATE = issue_certificate(ALICE, KEY.public_key).encode()


@define(eq=False)
class Server:
    """The server's side of one pool."""

    now: int = NOW_MS
    count: int = 0
    has_last_resort: bool = False
    published: list[bytes] = field(factory=list)
    kept: dict[bytes, fx.SavedPackage] = field(factory=dict)
    """What the device has kept."""
    pool: KeyPackagePool = field(init=False)
    fails: bool = False

    def __attrs_post_init__(self) -> None:
        self.start_anew()

    def start_anew(self) -> None:
        self.pool = KeyPackagePool(KEY, CERTIFICATE, lambda: self.now, self.write)
        for saved in self.kept.values():
            self.pool.restore(saved)

    def write(self, write: fx.Write) -> None:
        match write:
            case fx.SavedPackage():
                self.kept[write.ref] = write
            case fx.DropPackage(ref):
                self.kept.pop(ref)
            case _:
                raise AssertionError(f"a pool writes no {write}")

    def publish(self) -> None:
        """Have the device look after its pool."""
        steps = self.pool.publishing()
        reply: Any = None
        try:
            while True:
                step = steps.send(reply)
                assert isinstance(step, fx.Inquiry)
                reply = self.answer(step.question)
        except StopIteration:
            pass

    def answer(self, question: fx.Question) -> Any:
        if isinstance(question, MlsPackages):
            return MlsPool(self.count, self.has_last_resort)
        assert isinstance(question, MlsPublish)
        if self.fails:
            return Error("internal")
        for text in question.packages:
            package = open_key_package(from_base64url(text))
            assert package.ref in self.kept, "a package is kept before it is published"
            self.published.append(package.ref)
            self.count += not package.is_last_resort
            self.has_last_resort = self.has_last_resort or package.is_last_resort
        return Accepted(self.now, count=self.count)

    def last_resorts(self) -> list[fx.SavedPackage]:
        return [each for each in self.kept.values() if each.is_last_resort]

    def welcome_for(self, saved: fx.SavedPackage) -> bytes:
        """A welcome by another device, for this package."""
        laptop = DeviceKey.from_seed(b"l" * 32)
        certificate = issue_certificate(ALICE, laptop.public_key).encode()
        other = KeyPackagePool(laptop, certificate, lambda: self.now, lambda _: None)
        group = MLSGroup.create(laptop, b"g" * 32, other.make_own(), Policy())
        package = KeyPackagePrivate.decode(self.kept[saved.ref].data)
        return group.commit(add=[package.public]).welcome


def test_a_pool_is_filled_with_packages_that_the_server_takes() -> None:
    server = Server()
    server.publish()
    assert (server.count, server.has_last_resort) == (POOL_PACKAGES, True)
    assert len(server.kept) == POOL_PACKAGES + 1
    assert all(each.is_published for each in server.kept.values())
    leaf = Leaf(ALICE.client_id, KEY.public_key.raw)
    for saved in server.kept.values():
        source: Any = KeyPackagePrivate.decode(saved.data).package.leaf.source
        offer = Offer(leaf, has_our_capabilities=True, not_before=source.not_before, not_after=source.not_after)
        assert fault_of(offer, leaf, server.now // 1000) is None


def test_what_was_taken_is_replaced_and_nothing_more() -> None:
    server = Server()
    server.publish()
    server.count -= 13
    before = len(server.published)
    server.publish()
    assert server.count == POOL_PACKAGES
    assert len(server.published) == before + 13


def test_a_package_is_destroyed_when_it_was_used_and_a_last_resort_is_replaced() -> None:
    server = Server()
    server.publish()
    normal = next(each for each in server.kept.values() if not each.is_last_resort)
    server.pool.use(normal)
    assert normal.ref not in server.kept
    (last,) = server.last_resorts()
    server.pool.use(last)
    assert server.kept[last.ref].is_used
    server.publish()
    assert len(server.last_resorts()) == 2, "a welcome for the old one may be on its way"
    server.now += KEPT_MS
    server.publish()
    assert last.ref not in server.kept


def test_a_last_resort_is_replaced_in_time_also_when_nobody_used_it() -> None:
    server = Server()
    server.publish()
    (last,) = server.last_resorts()
    server.now += LAST_RESORT_MS - 1
    server.publish()
    assert server.last_resorts() == [last]
    server.now += 1
    server.publish()
    assert len(server.last_resorts()) == 2


def test_private_halves_stay_until_no_mailbox_can_have_a_welcome_for_them() -> None:
    server = Server()
    server.publish()
    server.now += 89 * DAY_MS + KEPT_MS - 1
    server.publish()
    assert len(server.kept) >= POOL_PACKAGES + 1
    first = min(each.destroy_at for each in server.kept.values())
    server.now = first
    server.publish()
    assert all(each.destroy_at > server.now for each in server.kept.values())


def test_packages_whose_answer_was_lost_work_all_the_same() -> None:
    server = Server(fails=True)
    server.publish()
    assert not any(each.is_published for each in server.kept.values())
    lost = next(iter(server.kept.values()))
    server.start_anew()
    server.fails = False
    found = server.pool.find(server.welcome_for(lost))
    assert found is not None
    assert found[1].ref == lost.ref
    server.publish()
    assert server.count == POOL_PACKAGES


def test_a_welcome_for_somebody_else_finds_nothing() -> None:
    server, other = Server(), Server()
    server.publish()
    other.publish()
    theirs = next(iter(other.kept.values()))
    assert server.pool.find(other.welcome_for(theirs)) is None

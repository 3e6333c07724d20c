"""Key packages: devices publish them, and others take them to add these devices (docs/protocol.md, section 10.4).

Rule: a claim says nothing about blocks and limits. Whoever may not take from a pool gets the last resort.
"""

from collections import Counter
from collections.abc import Callable, Iterable

import trio
from attrs import field, frozen

from ironwire.counting import Tallied, figure, tallied
from ironwire.crypto.signing import public_key_from
from ironwire.delivery.delivery import Delivery
from ironwire.delivery.encrypted import NO_KEY, leaf_of
from ironwire.delivery.hub import Endpoint, Hub
from ironwire.errors import InvalidCertificate, InvalidId, InvalidPublicKey, MLSError
from ironwire.handlers.replies import reply, verb_handler
from ironwire.ids import ClientId, GroupId, MessageId, is_group
from ironwire.limits import PACKAGES_PER_CLAIM
from ironwire.mls.public import OUR_CAPABILITIES, KeyPackage, Lifetime, open_key_package
from ironwire.protocol.conversations.key_packages import LOW_WATER, ClaimRules, Offer, fault_of
from ironwire.protocol.conversations.names import pair_id
from ironwire.protocol.conversations.slots import Leaf
from ironwire.protocol.devices.certificate import decode_certificate
from ironwire.protocol.devices.log_entry import MOST_ENTRIES
from ironwire.store.contract import operations as op
from ironwire.store.contract.conversations import PoolPackage
from ironwire.store.contract.store import Store
from ironwire.wire import messages as msg
from ironwire.wire.base64url import from_base64url, to_base64url
from ironwire.wire.codec import encode
from ironwire.wire.messages.fields import ErrorCode

NO_SUCH_CONVERSATION = msg.Error("not_found", detail="no such conversation of this client")


@frozen
class KeyPackageStatistics:
    claimed_total: Tallied = figure(
        "Key packages that were handed out: `fresh` ones, or the `last_resort` of a device that has no other, or for "
        "who claims too many."
    )


@frozen
class KeyPackageHandler:
    """Answers devices about key packages."""

    _hub: Hub
    _store: Store
    _delivery: Delivery
    _now_ms: Callable[[], int]
    _rules: ClaimRules = field(init=False, factory=ClaimRules)
    _claimed: Counter[str] = field(init=False, factory=Counter)

    def statistics(self) -> KeyPackageStatistics:
        return KeyPackageStatistics(tallied("kind", {"fresh": 0, "last_resort": 0} | self._claimed))

    @verb_handler
    async def publish(self, endpoint: Endpoint, request: msg.MlsPublish, id_: MessageId | None) -> ErrorCode | None:
        """Raises:
        StoreError: the store cannot work.
        """
        who = leaf_of(endpoint)
        if who is None:
            return reply(endpoint, NO_KEY, id_)
        leaf, now_ms = who[0], self._now_ms()
        packages = []
        for index, text in enumerate(request.packages):
            try:
                packages.append(_opened(text, leaf, now_ms))
            except MLSError as error:
                return reply(endpoint, msg.Error("invalid", detail=f"packages[{index}]: {error}"), id_)
        if sum(package.is_last_resort for package in packages) > 1:
            return reply(endpoint, msg.Error("invalid", detail="packages: there is one last resort"), id_)
        result = await self._delivery.change(leaf.client, op.PublishPackages(leaf, tuple(packages)))
        return reply(endpoint, _published(result, now_ms), id_)

    @verb_handler
    async def packages(self, endpoint: Endpoint, request: msg.MlsPackages, id_: MessageId | None) -> ErrorCode | None:
        """Raises:
        StoreError: the store cannot be read.
        """
        who = leaf_of(endpoint)
        if who is None:
            return reply(endpoint, NO_KEY, id_)
        pool = await self._store.pool(who[0])
        return reply(endpoint, msg.MlsPool(pool.count, pool.has_last_resort), id_)

    @verb_handler
    async def claim(self, endpoint: Endpoint, request: msg.MlsClaim, id_: MessageId | None) -> ErrorCode | None:
        """Raises:
        StoreError: the store cannot work.
        """
        who = leaf_of(endpoint)
        if who is None:
            return reply(endpoint, NO_KEY, id_)
        if (request.clients is None) == (request.devices is None):
            return reply(endpoint, msg.Error("invalid", detail="claim of clients, or of devices"), id_)
        return reply(endpoint, await self._claim(who[0], request), id_)

    async def _claim(self, leaf: Leaf, request: msg.MlsClaim) -> msg.MlsClaimed | msg.Error:
        wanted = [Leaf(each.client, bytes.fromhex(each.device_key)) for each in request.devices or ()]
        clients = dict.fromkeys(request.clients or (each.client for each in wanted))
        refusal = await self._refuses(leaf.client, request, clients)
        if refusal is not None:
            return refusal
        devices = wanted or [each for client in clients for each in await self._devices_of(client) if each != leaf]
        if len(devices) > PACKAGES_PER_CLAIM:
            return msg.Error(
                "too_large", detail=f"these are more than {PACKAGES_PER_CLAIM} devices: name fewer clients"
            )
        now = trio.current_time()
        is_allowed = self._rules.begin(leaf.client, now)
        targets = [
            (each, is_allowed and self._rules.may_take(leaf.client, each, now)) for each in dict.fromkeys(devices)
        ]
        operation = op.ClaimPackages(leaf.client, request.group, tuple(targets), self._now_ms())
        result = await self._delivery.change(leaf.client, operation)
        if not isinstance(result, op.PackagesClaimed):
            return msg.Error("internal", detail="no package could be claimed")
        self._claimed.update("last_resort" if each.is_last_resort else "fresh" for each in result.packages)
        self._ask_for_more(result.packages)
        having = {each.device.client for each in result.packages} | {leaf.client}
        heads = [head for client in clients if (head := await self._log_head(client)) is not None]
        return msg.MlsClaimed(
            [*map(_package, result.packages)], [each for each in clients if each not in having], heads
        )

    async def _refuses(self, client: ClientId, request: msg.MlsClaim, targets: Iterable[ClientId]) -> msg.Error | None:
        """Only who is to be in the conversation takes packages for it."""
        if not is_group(request.group):
            others = [each for each in targets if each != client]
            if any(pair_id(client, other) != request.group for other in others):
                return msg.Error("forbidden", detail="this is a pair of other clients")
            return None
        group = await self._store.group(GroupId(request.group))
        if group is None or client not in group.roles:
            return NO_SUCH_CONVERSATION
        if group.roles[client] != "admin" and any(each not in group.roles for each in targets):
            return msg.Error("forbidden", detail="only admins of the group may add clients to it")
        return None

    async def _devices_of(self, client: ClientId) -> list[Leaf]:
        boxes = await self._store.mailboxes_of(client)
        return [Leaf(client, box.device_key) for box in boxes if box.device_key is not None]

    async def _log_head(self, client: ClientId) -> msg.MlsLogHead | None:
        page = await self._store.device_log(client, first=MOST_ENTRIES, limit=0)
        return None if page is None else msg.MlsLogHead(client, page.head.index, page.head.hash.hex())

    def _ask_for_more(self, claimed: Iterable[op.ClaimedPackage]) -> None:
        for package in claimed:
            if package.left < LOW_WATER:
                session = self._hub.session_of_key(package.device)
                if session is not None:
                    session.outbox.put_ephemeral(encode(msg.MlsLow(package.left)))


def _opened(text: str, device: Leaf, now_ms: int) -> PoolPackage:
    """A package that this device may publish.

    Raises:
        MLSError: it may not, or it is none.
    """
    try:
        data = from_base64url(text)
    except InvalidId as error:
        raise MLSError(str(error)) from None
    package = open_key_package(data)
    lifetime = package.leaf.source
    if not isinstance(lifetime, Lifetime):
        raise MLSError("the leaf has no lifetime")
    offer = Offer(
        Leaf(_certified_client(package, now_ms), package.leaf.signature_key),
        has_our_capabilities=package.leaf.capabilities == OUR_CAPABILITIES and not package.leaf.extensions,
        not_before=lifetime.not_before,
        not_after=lifetime.not_after,
    )
    fault = fault_of(offer, device, now_ms // 1000)
    if fault is not None:
        raise MLSError(fault)
    return PoolPackage(package.ref, package.init_key, data, package.is_last_resort, lifetime.not_after * 1000)


def _certified_client(package: KeyPackage, now_ms: int) -> ClientId:
    """The client that has certified the key of this leaf.

    Raises:
        MLSError: nobody has.
    """
    try:
        certificate = decode_certificate(package.leaf.identity)
        certificate.verify(public_key_from(package.leaf.signature_key), now_ms)
    except (InvalidCertificate, InvalidPublicKey) as error:
        raise MLSError(str(error)) from None
    return certificate.client.client_id


def _published(result: op.Result, now_ms: int) -> msg.Accepted | msg.Error:
    match result:
        case op.PackagesPublished(pool):
            return msg.Accepted(now_ms, count=pool.count)
        case op.PackageKnown(index):
            return msg.Error("invalid", detail=f"packages[{index}]: it was published before")
        case op.TooManyPackages():
            return msg.Error("quota", detail="the pool of this device is full")
        case op.SessionOver():
            return msg.Error("not_found", detail="this device was removed")
        case _:
            return msg.Error("internal", detail="the packages could not be stored")


def _package(claimed: op.ClaimedPackage) -> msg.MlsPackage:
    device = claimed.device
    return msg.MlsPackage(device.client, device.device.hex(), to_base64url(claimed.data), claimed.is_last_resort)

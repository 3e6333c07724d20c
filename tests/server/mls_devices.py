"""Devices on a stage that speak MLS in earnest: certificates, key packages, commits, and what comes of them."""

import json
from typing import Any

from attrs import define, field

from ironwire.crypto.signing import DeviceKey
from ironwire.ids import ClientId, ConversationId, Role
from ironwire.mls import KeyPackagePrivate, Lifetime, MLSGroup, PendingCommit, Policy, make_key_package
from ironwire.protocol.conversations.declaration import Declaration, Op, roster_hash
from ironwire.protocol.conversations.names import Generation
from ironwire.protocol.devices.certificate import issue_certificate
from ironwire.protocol.devices.log import DeviceLog
from ironwire.protocol.devices.log_entry import LogOp, sign_entry
from ironwire.wire.base64url import from_base64url, to_base64url
from tests.playbook import NOW_MS, Stage, identity_of
from tests.server.test_device_log import append_json, certified_auth, certified_verify
from tests.wire import frame_builder

DAY = 86_400
LIFETIME = Lifetime(NOW_MS // 1000 - DAY, NOW_MS // 1000 + 60 * DAY)
Payload = dict[str, Any]


@define(eq=False)
class MlsActor:
    """A device of a client, as `alice.phone`. Its key is made from its name."""

    name: str
    stage: Stage = field(repr=False)
    key: DeviceKey = field(init=False, repr=False)
    packages: dict[bytes, KeyPackagePrivate] = field(init=False, factory=dict, repr=False)
    group: MLSGroup | None = field(init=False, default=None, repr=False)
    roster: dict[ClientId, Role] = field(init=False, factory=dict, repr=False)
    arrived: list[Payload] = field(init=False, factory=list, repr=False)
    """Frames that were no answer to what `ask` asked last."""
    _ids: int = field(init=False, default=0)

    @key.default
    def _named(self) -> DeviceKey:
        return DeviceKey.from_seed(self.name.encode().ljust(32, b"."))

    @property
    def client(self) -> ClientId:
        return identity_of(self.name).client_id

    @property
    def device(self) -> str:
        return self.name.partition(".")[2]

    @property
    def mls(self) -> MLSGroup:
        assert self.group is not None, f"{self.name} is in no group"
        return self.group

    # --- the connection ---

    async def enter(self) -> None:
        await self.stage.connect(self.name)
        actor = self.stage.actors[self.name]
        await actor.send(
            certified_auth(self.key, self.device, actor=self.name),
            certified_verify(self.key, self.device, client=identity_of(self.name).public_key),
        )
        while (frame := await self.next_frame())["type"] != "caught_up":
            self.arrived.append(frame)

    async def next_frame(self) -> Payload:
        frame: Payload = json.loads(await self.stage.next_text(self.name))
        return frame

    async def ask(self, verb: str, **payload: object) -> Payload:
        """The answer; what comes before it is kept in `arrived`."""
        return await self._ask({"type": verb, "payload": payload})

    async def ask_numbered(self, n: int, verb: str, **payload: object) -> Payload:
        return await self._ask({"type": verb, "n": n, "payload": payload})

    async def _ask(self, frame: Payload) -> Payload:
        self._ids += 1
        id_ = f"{self.name} {self._ids}"
        await self.stage.actors[self.name].send(frame_builder.text(json.dumps({**frame, "id": id_})))
        while (answer := await self.next_frame()).get("id") != id_ or "seq" in answer:
            self.arrived.append(answer)
        return answer

    async def refused(self, verb: str, **payload: object) -> tuple[str, str]:
        answer = await self.ask(verb, **payload)
        assert answer["type"] == "error", answer
        return answer["payload"]["msg"], answer["payload"].get("detail", "")

    async def accepted(self, verb: str, **payload: object) -> Payload:
        answer = await self.ask(verb, **payload)
        assert answer["type"] != "error", answer
        found: Payload = answer.get("payload", {})
        return found

    async def delivery(self, verb: str) -> Payload:
        """The payload of the next frame of this verb, which is taken; others are kept."""
        while not (found := [frame for frame in self.arrived if frame["type"] == verb]):
            self.arrived.append(await self.next_frame())
        self.arrived.remove(found[0])
        payload: Payload = found[0]["payload"]
        return payload

    # --- MLS ---

    def package(self, *, last_resort: bool = False, lifetime: Lifetime = LIFETIME) -> KeyPackagePrivate:
        certificate = issue_certificate(identity_of(self.name), self.key.public_key).encode()
        own = make_key_package(self.key, certificate, lifetime, last_resort=last_resort)
        self.packages[own.ref] = own
        return own

    async def publish(self, count: int = 1, *, last_resort: bool = False) -> Payload:
        packages = [self.package() for _ in range(count)]
        packages += [self.package(last_resort=True)] if last_resort else []
        return await self.accepted("mls_publish", packages=[to_base64url(own.public) for own in packages])

    def found(self, conversation: ConversationId, generation: int = 1) -> None:
        """A group of this device alone, in epoch 0."""
        group_id = Generation(conversation, generation).group_id(self.name.encode()[:12].ljust(12, b"."))
        self.group = MLSGroup.create(self.key, group_id, self.package(), Policy())
        self.roster = {self.client: "admin"}

    def prepare(
        self,
        op: Op,
        *,
        add: list[Payload] | None = None,
        remove: "list[MlsActor] | None" = None,
        roles: dict[ClientId, Role] | None = None,
        said: Payload | None = None,
    ) -> PendingCommit:
        """A commit that declares what it does: claimed packages to be added, and devices to be removed. `said` is what
        it declares instead.
        """
        packages, gone = add or [], remove or []
        new = sorted({each["client"] for each in packages} - self.roster.keys()) if op == "members" else []
        out = sorted({each.client for each in gone}) if op in ("members", "leave") else []
        after: dict[ClientId, Role] = {client: role for client, role in self.roster.items() if client not in out}
        after |= dict.fromkeys(new, "member")
        after |= roles or {}
        given = {"by": self.client, "add": tuple(new), "remove": tuple(out), "roles": roles or {}}
        declared = Declaration(**{**given, "op": op, "roster": roster_hash(after), **(said or {})})
        leaves = {member.signature_key: member.leaf for member in self.mls.members()}
        pending = self.mls.commit(
            add=[from_base64url(each["package"]) for each in packages],
            remove=[leaves[each.key.public_key.raw] for each in gone],
            authenticated_data=declared.encode(),
        )
        self.roster_after = after
        return pending

    roster_after: dict[ClientId, Role] = field(init=False, factory=dict, repr=False)

    def said(self, conversation: ConversationId, pending: PendingCommit, generation: int = 1) -> Payload:
        """The payload of `mls_create` or `mls_commit`."""
        payload = {"group": conversation, "generation": generation, "commit": to_base64url(pending.commit)}
        return payload | ({"welcome": to_base64url(pending.welcome)} if pending.welcome else {})

    async def take_commit(self, *, roster: dict[ClientId, Role] | None = None) -> Payload:
        payload = await self.delivery("mls_committed")
        self.mls.process(from_base64url(payload["data"]))
        self.roster = self.roster_after if roster is None else roster
        return payload

    async def join(self, roster: dict[ClientId, Role]) -> Payload:
        payload = await self.delivery("mls_welcome")
        welcome = from_base64url(payload["data"])
        for own in self.packages.values():
            if own.ref in welcome:
                self.group, _ = MLSGroup.join(self.key, own, welcome, Policy())
        self.roster = dict(roster)
        return payload

    def sealed(self, conversation: ConversationId, text: str, generation: int = 1) -> Payload:
        data = to_base64url(self.mls.encrypt(text.encode()))
        return {"group": conversation, "generation": generation, "epoch": self.mls.epoch, "data": data}

    async def read(self) -> str:
        payload = await self.delivery("mls_message")
        event = self.mls.process(from_base64url(payload["data"]))
        return event.data.decode()  # type: ignore[union-attr]  # an application message


async def enter_all(stage: Stage, *names: str, packages: int = 3) -> list[MlsActor]:
    """Devices in the logs of their clients, with sessions and with packages."""
    logs: dict[str, DeviceLog] = {}
    actors = [MlsActor(name, stage) for name in names]
    for actor in actors:
        who = actor.name.partition(".")[0]
        identity = identity_of(who)
        log = logs.get(who, DeviceLog(identity.public_key))
        entry = sign_entry(identity, log.next_entry(LogOp.ADD, [actor.key.public_key], time_ms=NOW_MS))
        logs[who] = log.append(entry)
        clerk = f"{who}.clerk.{actor.device}"
        await stage.enter(clerk)
        await stage.actors[clerk].send(frame_builder.text(append_json(entry)))
        while json.loads(await stage.next_text(clerk))["type"] != "accepted":
            pass
        await stage.actors[clerk].hang_up()
    for actor in actors:
        await actor.enter()
        if packages:
            await actor.publish(packages, last_resort=True)
    return actors

"""A device with keys of its own, as a program that is to be killed: `main`, with a plan in JSON as its one argument.

It prints a line for everything that it is handed out, and for everything that should not be. What it has to keep it
keeps in its own files: the client library's. So nothing is known here of what an earlier run did.
"""

import itertools
import json
import os
import random
import sys
from pathlib import Path

import trio
from attrs import define, frozen

from ironwire.client import (
    Backoff,
    Client,
    CommitRefused,
    DeliveredText,
    DeviceRenewed,
    Event,
    Identity,
    LogDisputed,
    Lost,
    MembersChanged,
    Missed,
    NotEncrypted,
    Owner,
    Received,
    Refused,
    ServerAddress,
    StoreKey,
    Text,
    Unreadable,
    open_device,
    open_device_keys,
)
from ironwire.ids import Address, ClientId, DeviceId, GroupId, MessageId, parse_group_id
from ironwire.wire.messages import CaughtUp

MANAGER = "alice.laptop"
"""Makes the group, and lets Dave come and go."""
RENAMER = "alice.phone"
SILENT = "bob.tablet"
"""Says nothing before the end: so its file has everything in the one order of the mailboxes."""
PAIRS = {"alice": "bob", "bob": "alice", "carol": "dave", "dave": "carol"}
STAYING = ("bob", "carol")
COMING_AND_GOING = "dave"
MOST_WAITING = 30
SHORTEST_PAUSE, LONGEST_PAUSE = 0.005, 0.06
READY, CAUGHT_UP, HEARD, WRONG = "ready", "caught up", "heard ", "wrong "
"""What a line begins with."""
CAME, GOES, LAST = "dave is here", "dave goes", "the last word"
WRONG_EVENTS = CommitRefused | DeviceRenewed | LogDisputed | Lost | Missed | NotEncrypted | Unreadable


@frozen
class Plan:
    """`part`: begin (say nothing), chat, or end (say one last word everywhere)."""

    folder: str
    server: str
    name: str
    run: int
    part: str

    @property
    def client(self) -> str:
        return self.name.partition(".")[0]

    @property
    def owner(self) -> Owner:
        origin = ServerAddress.parse(self.server).origin
        return Owner(identity_of(self.client).client_id, DeviceId(self.name.partition(".")[2]), origin)

    @property
    def store_key(self) -> StoreKey:
        return StoreKey.of(identity_of(self.client))

    @property
    def home(self) -> Path:
        return Path(self.folder, self.name)


def identity_of(client: str) -> Identity:
    return Identity.from_seed(client.encode().ljust(32, b"."))


def id_of(client: str) -> ClientId:
    return identity_of(client).client_id


def peers_of(client: str) -> list[Address]:
    return [id_of(PAIRS[client])]


@define(eq=False)
class Member:
    """One run of the program."""

    plan: Plan
    client: Client

    def group(self) -> GroupId | None:
        path = Path(self.plan.folder, "group")
        return parse_group_id(path.read_text()) if path.exists() else None

    async def listen(self) -> None:
        async for event in self.client:
            self._tell(event)

    def _tell(self, event: Event) -> None:
        match event:
            case Received(DeliveredText(text=text)):
                say(HEARD, text)
            case Received(CaughtUp()):
                say(CAUGHT_UP)
            case event if isinstance(event, WRONG_EVENTS):
                say(WRONG, repr(event)[:500])
            case MembersChanged(removed=removed) if self.client.client_id in removed:
                say("out")
            case _:
                pass

    # --- while everybody is killed -----------------------------------------------------------------------------------

    async def chat(self) -> None:
        for number in itertools.count():
            if self.client.waiting < MOST_WAITING:
                to = random.choice(self._places())
                await self.client.queue(Text(to, f"{self.plan.name} {self.plan.run}.{number} {self._length()}"))
            await trio.sleep(random.uniform(SHORTEST_PAUSE, LONGEST_PAUSE))

    def _places(self) -> list[Address]:
        group = self.group()
        is_here = group is not None and self.client.groups.is_encrypted(group)
        return [*peers_of(self.plan.client), *([group] if group is not None and is_here else [])]

    def _length(self) -> str:
        return "x" * random.choice([0, 5, 50, 3_000])

    async def manage(self) -> None:
        """Let Dave come and go. What he must have heard lies between two words of this device: the first is encrypted
        after the commit that lets him in, the second accepted before the one that puts him out.
        """
        group = await self._found()
        for number in itertools.count():
            await self._let_in(group, COMING_AND_GOING)
            await self.client.queue(Text(group, f"{CAME} {self.plan.run}.{number}"))
            await trio.sleep(random.uniform(0.3, 1.0))
            await self.client.send_text(group, f"{GOES} {self.plan.run}.{number}")
            await self.client.groups.remove(group, [id_of(COMING_AND_GOING)])
            await trio.sleep(random.uniform(0.1, 0.5))

    async def rename(self) -> None:
        """Commit at the same time as others do."""
        while True:
            group = self.group()
            if group is not None and self.client.groups.is_encrypted(group):
                await self.client.groups.rename(group, f"group of {self.plan.run}")
            await trio.sleep(random.uniform(0.3, 1.0))

    async def _found(self) -> GroupId:
        """The group, of all who stay. A crash that loses its name leaves it to nobody, and another is made."""
        group = self.group() or await self.client.groups.create([], "group")
        await self._let_in(group, *STAYING)
        path = Path(self.plan.folder, "group")
        path.with_suffix(".new").write_text(group)
        path.with_suffix(".new").rename(path)
        return group

    async def _let_in(self, group: GroupId, *clients: str) -> None:
        while True:
            try:
                await self.client.groups.add(group, [id_of(client) for client in clients])
                return
            except Refused as refused:
                if refused.code != "not_found":  # a device that has published no key package yet
                    raise
            await trio.sleep(0.2)

    # --- at the end --------------------------------------------------------------------------------------------------

    async def say_last_words(self) -> None:
        """In every conversation, once: the ids make it so. Dave can speak in the group once he is in it."""
        for peer in peers_of(self.plan.client):
            await self._say_last_word(peer)
        if self.plan.name == MANAGER:
            group: GroupId | None = await self._found()
            assert group is not None
            await self._let_in(group, COMING_AND_GOING)
            await self.client.queue(Text(group, f"{CAME} at last"), ids=[MessageId(f"{CAME} at last")])
        else:
            group = await self._heard_from_manager()
        await self._say_last_word(group)

    async def _heard_from_manager(self) -> GroupId:
        while True:
            group = self.group()
            if group is not None:
                entries = await self.client.history(group, 1_000)
                if any(getattr(entry.message, "text", "") == f"{LAST} {MANAGER}" for entry in entries):
                    return group
            await trio.sleep(0.1)

    async def _say_last_word(self, to: Address) -> None:
        text = f"{LAST} {self.plan.name}"
        await self.client.queue(Text(to, text), ids=[MessageId(f"{text} {to[:8]}")])


async def run(plan: Plan) -> None:
    identity, device = identity_of(plan.client), plan.owner.device
    keys = open_device_keys(plan.home / "identity.key", identity, device)
    backoff, store = Backoff(0.05, 0.2), plan.home / "device.db"
    async with (
        open_device(plan.server, identity, device, store=store, keys=keys, backoff=backoff) as client,
        trio.open_nursery() as nursery,
    ):
        member = Member(plan, client)
        nursery.start_soon(member.listen)
        if plan.part == "end":
            nursery.start_soon(member.say_last_words)
        if plan.part == "chat" and plan.name != SILENT:
            nursery.start_soon(member.chat)
        if plan.part == "chat" and plan.name == MANAGER:
            nursery.start_soon(member.manage)
        if plan.part == "chat" and plan.name == RENAMER:
            nursery.start_soon(member.rename)


def say(kind: str, text: str = "") -> None:
    # In one write: `print` may be killed before the end of its line.
    os.write(sys.stdout.fileno(), f"{kind}{text}\n".encode())


def main() -> None:
    plan = Plan(**json.loads(sys.argv[1]))
    say(READY)
    try:
        trio.run(run, plan)
    except BaseException as error:
        say(WRONG, f"{plan.name} ended: {error!r}")
        raise

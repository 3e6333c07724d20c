"""What somebody has to commit: one live device of the conversation is asked at a time (`protocol/conversations/tasks`).

    a change, or a device that comes ──poke──> clients whose conversations are looked at
    a lease that is over             ─────────> its conversation, again

Tasks are in the store and leases in memory alone, so nothing is lost where a push is: the next device is asked.
"""

from collections.abc import Iterable

import trio
from attrs import define, field

from ironwire.counting import figure
from ironwire.delivery.hub import Endpoint, Hub
from ironwire.ids import ClientId, ConversationId
from ironwire.limits import TASKS_AT_ONCE
from ironwire.protocol.conversations.slots import Leaf, leaves_in
from ironwire.protocol.conversations.tasks import LEASE_SECONDS, Leases, Task, TaskKind, is_due
from ironwire.store.contract.store import Store
from ironwire.wire.codec import encode
from ironwire.wire.messages import MlsDevice, MlsTask

CHECK_SECONDS = 1.0


@define
class TaskStatistics:
    asked_total: int = figure("Devices that were asked to commit what is to be committed.")


@define(eq=False)
class TaskHandler:
    """Asks devices to commit."""

    _hub: Hub
    _store: Store
    _leases: Leases = field(init=False, factory=Leases)
    _poked: dict[ClientId, None] = field(init=False, factory=dict)
    """Clients in whose conversations something may be to do, in the order in which they were named."""
    _asked: int = field(init=False, default=0)

    def poke(self, clients: Iterable[ClientId]) -> None:
        """Something has changed in conversations of these clients, or one of their devices has come."""
        self._poked.update(dict.fromkeys(clients))

    def arrived(self, endpoint: Endpoint) -> None:
        if endpoint.principal.device_key is not None:
            self.poke([endpoint.principal.client])

    def left(self, endpoint: Endpoint) -> None:
        key = endpoint.principal.device_key
        if key is not None:
            leaf = Leaf(endpoint.principal.client, key.raw)
            if self._hub.session_of_key(leaf) is None:
                self._leases.end(leaf, trio.current_time())

    async def run(self) -> None:
        """Ask whoever is to be asked, for ever.

        Raises:
            StoreError: the store cannot be read; whoever supervises this begins anew.
        """
        while True:
            await trio.sleep(CHECK_SECONDS)
            await self.ask()

    async def ask(self) -> None:
        """Raises:
        StoreError: the store cannot be read.
        """
        conversations = dict.fromkeys(self._leases.over(trio.current_time()))
        while self._poked:
            client = next(iter(self._poked))
            conversations.update(dict.fromkeys(await self._store.conversations_with_tasks(client)))
            del self._poked[client]
        for conversation in conversations:
            await self._ask_in(conversation)

    async def _ask_in(self, conversation: ConversationId) -> None:
        current = await self._store.conversation(conversation)
        if current is None:
            return
        tasks = await self._store.tasks(conversation)
        due = [task for task in tasks if is_due(task, current.slots, current.roster)]
        live = [leaf for leaf in leaves_in(current.slots) if self._hub.session_of_key(leaf) is not None]
        holder = self._leases.offer(conversation, due, current.roster, live, trio.current_time())
        session = None if holder is None else self._hub.session_of_key(holder)
        if session is not None:
            session.outbox.put_ephemeral(encode(_asked(conversation, due)))
            self._asked += 1

    def statistics(self) -> TaskStatistics:
        return TaskStatistics(self._asked)


def _asked(conversation: ConversationId, due: list[Task]) -> MlsTask:
    def devices(kind: TaskKind) -> list[MlsDevice] | None:
        found = [MlsDevice(task.client, task.device.hex()) for task in due if task.kind == kind]
        return found[:TASKS_AT_ONCE] or None

    gone = [task.client for task in due if task.kind == "left"][:TASKS_AT_ONCE] or None
    lease_ms = int(LEASE_SECONDS * 1000)
    return MlsTask(conversation, lease_ms, devices("add"), devices("remove"), devices("readd"), gone)

"""What somebody has to commit: one live device of the conversation is asked at a time (`protocol/conversations/tasks`).

    a change in the store     ─> its conversation, or all of its client's
    a device that connects    ─> all conversations of its client, at once   } are looked at: what is due there,
    a lease that is over      ─> its conversation                           } and who is here to do it

Tasks are in the store and leases in memory alone, so nothing is lost where a push is: the next device is asked.
"""

import trio
from attrs import define, field, frozen

from ironwire.counting import figure
from ironwire.delivery.hub import Endpoint, Hub
from ironwire.errors import StoreError
from ironwire.ids import ClientId, ConversationId, GroupId
from ironwire.limits import TASKS_AT_ONCE
from ironwire.protocol.conversations.slots import Leaf, leaves_in
from ironwire.protocol.conversations.tasks import LEASE_SECONDS, Leases, Task, TaskKind, is_due
from ironwire.store.contract import operations as op
from ironwire.store.contract.store import Store
from ironwire.wire import messages as msg
from ironwire.wire.codec import encode

CHECK_SECONDS = 1.0
WATCHED = (op.AdvanceConversation, op.AskToRejoin, op.PublishPackages, op.Remove, op.AppendToLog, op.ChangeGroup)


@frozen
class TaskStatistics:
    asked_total: int = figure("Devices that were asked to commit what is to be committed.")


@define(eq=False)
class TaskHandler:
    """Asks devices to commit."""

    _hub: Hub
    _store: Store
    _leases: Leases = field(init=False, factory=Leases)
    _clients: dict[ClientId, None] = field(init=False, factory=dict)
    """In whose conversations something may be to do."""
    _conversations: dict[ConversationId, None] = field(init=False, factory=dict)
    """In which something may be to do."""
    _asked: int = field(init=False, default=0)

    def watch(self, operation: op.Operation, result: op.Result | StoreError) -> None:
        """An operation was committed, after which somebody may have to commit something, or has."""
        match result:
            case op.Advanced() if isinstance(operation, op.AdvanceConversation):
                self._conversations[operation.after.id] = None
            case op.AskedToRejoin(conversations):
                self._conversations.update(dict.fromkeys(conversations))
            case op.PackagesPublished() if isinstance(operation, op.PublishPackages):
                self._clients[operation.device.client] = None
            case op.Removed() if isinstance(operation, op.Remove):
                self._clients[operation.client] = None
            case op.Logged() if isinstance(operation, op.AppendToLog):
                self._clients[operation.envelope.sender] = None
            case _ if type(operation) is op.ChangeGroup:
                self._conversations[GroupId(operation.envelope.to)] = None
            case _:
                pass

    def arrived(self, endpoint: Endpoint) -> None:
        if endpoint.principal.device_key is not None:
            self._clients[endpoint.principal.client] = None

    async def welcome(self, endpoint: Endpoint) -> None:
        """Ask a device for what waits, before anything is delivered to it: it is to do that before it says something.

        Raises:
            StoreError: the store cannot be read.
        """
        if endpoint.principal.device_key is not None:
            for conversation in await self._store.conversations_with_tasks(endpoint.principal.client):
                await self._ask_in(conversation)

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
        """Look at everything that may have something to do.

        Raises:
            StoreError: the store cannot be read; what was not looked at stays to be.
        """
        self._conversations.update(dict.fromkeys(self._leases.over(trio.current_time())))
        while self._clients:
            await trio.lowlevel.checkpoint()  # after a restart everybody comes at once
            client, _ = self._clients.popitem()
            try:
                found = await self._store.conversations_with_tasks(client)
            except StoreError:
                self._clients[client] = None
                raise
            self._conversations.update(dict.fromkeys(found))
        while self._conversations:
            await trio.lowlevel.checkpoint()
            conversation, _ = self._conversations.popitem()
            try:
                await self._ask_in(conversation)
            except StoreError:
                self._conversations[conversation] = None
                raise

    async def _ask_in(self, conversation: ConversationId) -> None:
        tasks = await self._store.tasks(conversation)
        current = await self._store.conversation(conversation) if tasks else None
        if current is None:
            self._leases.offer(conversation, (), {}, (), trio.current_time())
            return
        due = [task for task in tasks if is_due(task, current.slots, current.roster)]
        live = [leaf for leaf in leaves_in(current.slots) if self._hub.session_of_key(leaf) is not None]
        holder = self._leases.offer(conversation, due, current.roster, live, trio.current_time())
        session = None if holder is None else self._hub.session_of_key(holder)
        if session is not None:
            session.outbox.put_ephemeral(encode(_asked(conversation, due)))
            self._asked += 1

    def statistics(self) -> TaskStatistics:
        return TaskStatistics(self._asked)


def _asked(conversation: ConversationId, due: list[Task]) -> msg.MlsTask:
    def devices(kind: TaskKind) -> list[msg.MlsDevice] | None:
        found = [msg.MlsDevice(task.client, task.device.hex()) for task in due if task.kind == kind]
        return found[:TASKS_AT_ONCE] or None

    gone = [task.client for task in due if task.kind == "left"][:TASKS_AT_ONCE] or None
    lease_ms = int(LEASE_SECONDS * 1000)
    return msg.MlsTask(conversation, lease_ms, devices("add"), devices("remove"), devices("readd"), gone)

"""One WebSocket session is one nursery, and whatever happens in it ends there.

Theory of operation. A session is in one of these states; its own task is the one that runs `run`.

    state           who reads the connection                the session's own task            goes on with
    authenticating  its task, under a deadline, 4 KiB       the handshake (`handshake.py`)    registering, or ending
                    at a time, a slot a step
    registering     nobody                                  waits for the commit of a device  reading, or ending
    reading         the reader (`reader.py`) for a plain    parked; or in `receive`           handed over, or ending
                    socket; its task for other streams
    handed over     nobody: the kernel holds the bytes      awaits the disk, backpressure or  reading, or ending
                                                            a scheduling slot
    ending          nobody                                  waits until every waiting frame   the end
                                                            has been written

`Intake.take` (`intake.py`) handles each read. It is a generator that awaits nothing and yields whatever has to be
awaited. Mostly it yields nothing, and the session's task does not even wake. Otherwise that task awaits, step by step,
until the generator ends; then `Feed.next` lets the connection be read again. So the messages of one session keep their
order, whichever task handles them. The end of the connection and violations are raised by `Transport.receive` in the
session's task.

    run ── nursery ─┬─ authenticate, register, then `_read`
                    ├─ pump ········· only while the device of the session is behind its mailbox
                    ├─ write ········ only while the connection does not take everything at once; has a deadline
                    └─ ping ········· only while the peer has been silent for long (see `sessions.py`)

An idle session is one task in one nursery, and no timer.

One owner per thing: one task at a time receives, only `flush` and `_write` send, and everyone else talks to the outbox.
A session ends in one of two ways. The peer is gone: nothing more is written. Or the outbox was closed with an `Ending`:
what waits is written, the close frame follows, and a peer that does not take it in time is cut.

Rule: a connection is closed after its feed, so that nobody reads a descriptor that somebody else may have by then.
"""

from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from math import inf

import structlog
import trio
from attrs import define, field
from structlog.contextvars import bind_contextvars

from ironwire.close_codes import CloseCode
from ironwire.delivery.hub import Endpoint, TooManySessions
from ironwire.delivery.outbox import INTERNAL_ERROR, Ending, Outbox
from ironwire.delivery.pump import AckBeyondDelivery
from ironwire.errors import FrameViolation, TransportClosed
from ironwire.ids import MessageId, short_client
from ironwire.protocol.auth import BANNED, Admit, Authentication, AuthPolicy
from ironwire.protocol.holding import Hold
from ironwire.server.listener.connection_limiter import ConnectionSlot
from ironwire.server.session.admission import admit, welcome
from ironwire.server.session.handshake import Handshake
from ironwire.server.session.intake import Intake, Toll
from ironwire.server.session.reader import Wait
from ironwire.server.session.refusals import ErrorBudget
from ironwire.server.session.scheduler import Work
from ironwire.server.session.services import Services
from ironwire.server.session.transport import Transport
from ironwire.store.contract.records import Mailbox
from ironwire.wire.codec import encode

log = structlog.get_logger(__name__)

AUTH_TIMEOUT = Ending(CloseCode.PROTOCOL_ERROR, "Authentication timeout")
NO_SIGN_OF_LIFE = Ending(CloseCode.NO_SIGN_OF_LIFE, "no sign of life")
TOO_MANY_SESSIONS = Ending(CloseCode.OVERLOADED, "too many sessions of this client")


@define(eq=False)
class Session:
    """A connection from its upgrade to its end. `run` it once."""

    _transport: Transport
    _services: Services
    _policy: AuthPolicy
    _slot: ConnectionSlot
    _outbox: Outbox = field(init=False)
    _nursery: trio.Nursery | None = field(init=False, default=None)
    _pinged_at: float = field(init=False, default=-inf)
    _early: list[str | bytes] = field(init=False, factory=list)
    """Messages that came in the same read as the last one of authentication."""
    _auth_id: MessageId | None = field(init=False, default=None)
    """The id of the message that `auth_ok` answers."""
    _error_budget: ErrorBudget = field(init=False)
    _written: trio.Event | None = field(init=False, default=None)
    """There while `_write` runs, because the connection did not take everything at once; set at its end. Stays where
    `_write` fails.
    """
    _intake: Intake | None = field(init=False, default=None)
    """Made when the peer has authenticated."""
    _is_cut_off: bool = field(init=False, default=False)
    """The peer is gone, or was too slow to take another byte."""

    def __attrs_post_init__(self) -> None:
        limits = self._services.limits
        self._outbox = Outbox(
            most_frames=limits.outbox_frames,
            most_bytes=limits.outbox_bytes,
            ring=partial(self._services.flusher.schedule, self),
        )
        self._error_budget = ErrorBudget(self._outbox)

    async def run(self) -> None:
        """Serve the connection until it ends; no error of this session leaves it."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                admitted = await self._authenticate(nursery.cancel_scope)
                if admitted is not None:
                    await self._stay(admitted, nursery)
            if nursery.cancel_scope.cancelled_caught and not self._is_cut_off:
                self._outbox.close(AUTH_TIMEOUT)  # unless another ending stands: only the deadline names none
        except* TransportClosed:
            pass
        except* FrameViolation as violations:
            self._outbox.close(_ending_of(violations))
        except* Exception as errors:
            log.error("session failed", exc_info=errors)
            self._outbox.close(INTERNAL_ERROR)
        finally:
            self._nursery = None
            with trio.move_on_after(self._services.limits.close_seconds, shield=True):
                await self._leave()

    @property
    def received(self) -> int:
        """Frames that came after authentication."""
        return 0 if self._intake is None else self._intake.received

    @property
    def sent(self) -> int:
        """Frames that were given to the connection after authentication."""
        return self._outbox.taken

    @property
    def invalid(self) -> int:
        """Frames that were no message, before authentication and after."""
        return self._error_budget.invalid

    @property
    def ending(self) -> Ending | None:
        """Why the session ends or has ended; None where it is the peer that leaves."""
        return self._outbox.ending

    def end(self, ending: Ending) -> None:
        """Close the session from outside, in whichever state it is."""
        self._outbox.close(ending)

    def flush(self) -> int:
        """Send what waits as far as the connection takes it, leave the rest to a writer, and end if that is due.
        Returns how many frames waited.
        """
        nursery = self._open_nursery()
        if nursery is None or self._written is not None:
            return 0
        frames = self._outbox.take()
        try:
            is_all_out = self._transport.write(frames)
        except TransportClosed:
            self._cut_off()
            return 0
        if not is_all_out:
            self._written = trio.Event()
            nursery.start_soon(self._write, self._written)
        elif self._outbox.ending is not None:
            nursery.cancel_scope.cancel()
        return len(frames)

    def check_life(self, now: float) -> None:
        """Ping a peer that has been silent for long, and end the session of one that does not answer (section 6)."""
        limits, heard = self._services.limits, self._transport.last_heard
        if now - heard < limits.ping_after_seconds:
            return
        nursery = self._open_nursery()
        if nursery is None:
            return
        if self._pinged_at <= heard:
            self._pinged_at = now
            nursery.start_soon(self._ping)
        elif now - self._pinged_at >= limits.pong_seconds:
            self._outbox.close(NO_SIGN_OF_LIFE)

    def _open_nursery(self) -> trio.Nursery | None:
        """The nursery while it takes tasks: once cancelled, it may close before this session runs again."""
        nursery = self._nursery
        return None if nursery is None or nursery.cancel_scope.cancel_called else nursery

    async def _stay(self, admitted: Admit, nursery: trio.Nursery) -> None:
        """Serve a client that has proven its key, until its session ends."""
        if self._is_banned(admitted):
            return
        services = self._services
        pump = None if admitted.principal.device is None else services.delivery.pump(self._outbox)
        hold = None if admitted.speaks_seed else Hold()
        endpoint = Endpoint(admitted.principal, self._outbox, pump, hold=hold)
        try:
            with services.hub.attached(endpoint):
                refusal = await admit(admitted, endpoint, self._slot, services, partial(self._open, endpoint, admitted))
                if refusal is not None:
                    self._outbox.close(refusal)
                if refusal is not None or self._is_banned(admitted):
                    return
                log.debug("session opened", has_mailbox=pump is not None)
                if pump is not None:
                    await services.dispatcher.welcome(endpoint)
                    pump.begin(partial(nursery.start_soon, pump.run))
                await self._read(endpoint)
                if not self._is_cut_off:
                    await trio.sleep_forever()  # until the waiting frames are written
        except TooManySessions:
            self._outbox.close(TOO_MANY_SESSIONS)
        finally:
            services.dispatcher.left(endpoint)

    def _open(self, endpoint: Endpoint, admitted: Admit, mailbox: Mailbox | None) -> None:
        """The session begins, with `auth_ok`: for a device as its registration is settled, so in the order of commits.
        Nothing may be awaited here.
        """
        if not self._policy.is_banned(admitted.principal.client) and self._services.hub.open(endpoint):
            self._outbox.put(encode(welcome(admitted, mailbox, self._services), self._auth_id))
            self._services.dispatcher.arrived(endpoint)

    def _is_banned(self, admitted: Admit) -> bool:
        """Whether the operator has banned the client since the session began; if so, it is told."""
        if not self._policy.is_banned(admitted.principal.client):
            return False
        self._outbox.close(Ending(BANNED.code, BANNED.reason))
        return True

    async def _leave(self) -> None:
        """Close the connection, after the close frame if the peer is still there."""
        ending = self._outbox.ending
        if ending is None or self._is_cut_off:
            await self._transport.abort()
        else:
            if self._slot.is_unauthenticated:  # sessions that began together reach their deadline together
                await self._services.scheduler.slot(Work.UNAUTHENTICATED)
            await self._transport.close(ending.code, ending.reason)

    # --- authentication ----------------------------------------------------------------------------------------------

    async def _authenticate(self, scope: trio.CancelScope) -> Admit | None:
        """The way to a principal; None once an ending was set instead. `scope` has a deadline meanwhile."""
        services = self._services
        handshake = Handshake(self._transport, self._slot, self._outbox, self._error_budget, services)
        scope.deadline = self._transport.last_heard + services.limits.auth_seconds
        try:
            admitted = await handshake.run(Authentication(self._policy))
        except TransportClosed:
            self._cut_off()
            return None
        scope.deadline = inf
        self._early = handshake.early
        self._auth_id = handshake.id
        if admitted is not None:
            self._slot.authenticated()
            self._transport.authenticated()
            bind_contextvars(client=short_client(admitted.principal.client))
        return admitted

    # --- the tasks of the nursery ------------------------------------------------------------------------------------

    async def _read(self, endpoint: Endpoint) -> None:
        services, transport = self._services, self._transport
        allowance = services.rates.allowance(endpoint.principal.client, transport.last_heard)
        toll = Toll(endpoint, self._error_budget, transport, self._slot, services, allowance)
        self._intake = intake = Intake(endpoint, self._outbox, self._error_budget, toll, services)
        feed = services.reader.feed(transport, self._outbox, intake.take, self.flush)
        try:
            await _finish(intake.take(self._early))
            self._early = []
            while self._outbox.ending is None:
                if transport.is_over:  # the answers to what came before a close frame precede the answer to it
                    await endpoint.unsettled.wait_below(1)
                    await self._flush_all()
                await _finish(await feed.next())
        except FrameViolation as violation:
            self._outbox.close(Ending(violation.code, violation.reason))
        except AckBeyondDelivery as misuse:
            self._outbox.close(Ending(CloseCode.MISUSE, str(misuse)))
        except TransportClosed:
            self._cut_off()
        finally:
            feed.close()

    async def _write(self, written: trio.Event) -> None:
        is_all_out = False
        try:
            while not is_all_out:
                with trio.fail_after(self._services.limits.write_seconds):
                    is_all_out = await self._transport.send_some()
                if is_all_out:
                    is_all_out = self._transport.write(self._outbox.take())
            self._written = None
        except (trio.TooSlowError, TransportClosed):
            self._cut_off()
        written.set()
        self.flush()

    async def _flush_all(self) -> None:
        """Send everything that waits. A peer that takes nothing is cut off by `_write`, which cancels this."""
        self.flush()
        while self._written is not None:
            await self._written.wait()

    def _cut_off(self) -> None:
        self._is_cut_off = True
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    async def _ping(self) -> None:
        with trio.move_on_after(self._services.limits.pong_seconds), suppress(TransportClosed):
            await self._transport.ping()


async def _finish(steps: Iterator[Wait]) -> None:
    """Await each step. They are forgotten when this returns, and an idle session does not hold its last messages."""
    for wait in steps:
        await wait()


def _ending_of(violations: ExceptionGroup[FrameViolation]) -> Ending:
    first = violations.exceptions[0]
    return Ending(first.code, first.reason) if isinstance(first, FrameViolation) else INTERNAL_ERROR

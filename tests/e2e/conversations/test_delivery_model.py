"""Whatever goes wrong, devices agree at last, and no message comes twice or is lost without a word.

People write, admins change who is in a group, two commit at once; programs end before or after what they have kept is
on the disk; connections break, replies get lost, frames come twice or damaged, mailboxes lose entries; the server is
killed, or put back from an older backup; devices are linked, revoked, lose their state, or stay away for a month.
Hypothesis chooses. Then everybody comes back, nothing goes wrong any more, and `judge.py` looks.

`nox -s deliver -- EXAMPLES` plays more than the suite does.
"""

import os
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import partial
from typing import Any
from unittest.mock import patch

import hypothesis.strategies as st
import trio
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from ironwire.e2e.conversations.wishes import ChangeMembers, GiveRoles, Rename, RenewKeys
from ironwire.mls import suite
from ironwire.wire.messages.conversations import MlsCommitted, MlsMessage, MlsWelcome
from tests.e2e.conversations import faults
from tests.e2e.conversations.judge import ciphertexts, judge
from tests.e2e.conversations.model import CLIENTS, NAMES, SPARE, DeliveryModel, client_of, open_model
from tests.simulation.stepping import SteppedLoop
from tests.simulation.trace import seeded_scheduler

EXAMPLES = int(os.environ.get("DELIVERY_EXAMPLES", "8"))
IS_CAMPAIGN = "DELIVERY_EXAMPLES" in os.environ
"""Otherwise the histories are the same ones each time: a campaign looks for new ones."""
STEPS = 20

devices = st.sampled_from([*NAMES, *NAMES, *SPARE])
"""Any of them; whoever is not linked does nothing."""
clients = st.sampled_from(CLIENTS[1:])
places = st.sampled_from(["group", "group", *CLIENTS])


class Deliveries(RuleBasedStateMachine):
    """All devices and the server, given a history by Hypothesis."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: dict[bytes, bytes] = {}
        self.is_broken = False
        self.around = ExitStack()
        self.around.enter_context(patch.object(suite, "seal", self.noted(suite.seal)))
        self.around.enter_context(seeded_scheduler(0))
        self.loop: SteppedLoop[DeliveryModel] = SteppedLoop(open_model())
        self.model = self.loop.scene

    def noted(self, seal: Callable[..., bytes]) -> Callable[..., bytes]:
        def noting(key: bytes, *rest: bytes) -> bytes:
            sealed = seal(key, *rest)
            self.keys[sealed] = key
            return sealed

        return noting

    def do(self, step: Callable[[], Awaitable[Any]]) -> None:
        self.is_broken = True
        self.loop.do(step)
        self.is_broken = False

    def teardown(self) -> None:
        with self.around:
            try:
                if not self.is_broken:
                    self.do(self.model.quiesce)
                    judge(self.model)
                    sent = [ciphertexts(device) for device in self.model.ever]
                    used = Counter(self.keys[sealed] for each in sent for sealed in each)
                    assert max(used.values(), default=1) == 1, "a key has encrypted two messages"
            finally:
                self.loop.close()

    def is_here(self, name: str) -> bool:
        return name in self.model.current

    def may_do(self, name: str) -> bool:
        """Whether the program of this device runs."""
        return self.is_here(name) and not self.model.current[name].is_cut

    # --- people ------------------------------------------------------------------------------------------------------

    @rule(name=devices, where=places)
    def say(self, name: str, where: str) -> None:
        if self.may_do(name) and name.partition(".")[0] != where:
            self.model.say(name, where)

    @rule(name=devices, where=places)
    def say_more(self, name: str, where: str) -> None:
        self.say(name, where)

    @rule(name=devices, other=devices)
    def two_commit_at_once(self, name: str, other: str) -> None:
        for each in (name, other):
            if self.may_do(each):
                self.model.want(each, "group", RenewKeys())

    @rule(name=devices, who=clients)
    def add(self, name: str, who: str) -> None:
        if self.may_do(name):
            self.model.want(name, "group", ChangeMembers(add=(client_of(who),)))

    @rule(name=devices, who=clients)
    def remove(self, name: str, who: str) -> None:
        if self.may_do(name):
            self.model.want(name, "group", ChangeMembers(remove=(client_of(who),)))

    @rule(name=devices, who=clients)
    def promote(self, name: str, who: str) -> None:
        if self.may_do(name):
            self.model.want(name, "group", GiveRoles({client_of(who): "admin"}))

    @rule(name=devices)
    def rename(self, name: str) -> None:
        if self.may_do(name):
            self.model.want(name, "group", Rename(f"a name by {name}"))

    @rule(name=devices, where=places)
    def restart(self, name: str, where: str) -> None:
        if self.may_do(name) and name.partition(".")[0] != where:
            self.model.restart(name, where)

    @rule(name=devices)
    def quit(self, name: str) -> None:
        if self.may_do(name):
            self.do(lambda: self.model.quit(name))

    # --- devices -----------------------------------------------------------------------------------------------------

    @rule(name=devices)
    def leave(self, name: str) -> None:
        if self.is_here(name):
            self.do(self.model.current[name].leave)

    @rule(name=devices)
    def come(self, name: str) -> None:
        if self.is_here(name):
            self.do(lambda: self.model.come(name))

    @rule(name=st.sampled_from(SPARE))
    def link(self, name: str) -> None:
        if not self.is_here(name):
            self.do(lambda: self.model.link(name))

    @rule(name=devices)
    def revoke(self, name: str) -> None:
        if self.is_here(name) and self.model.others_of(name):
            self.do(lambda: self.model.revoke(name))

    @rule(name=devices)
    def evict(self, name: str) -> None:
        if self.is_here(name):
            self.do(lambda: self.model.evict(name))

    # --- faults ------------------------------------------------------------------------------------------------------

    @rule(name=devices, after=st.integers(0, 6), is_kept=st.booleans())
    def crash(self, name: str, after: int, is_kept: bool) -> None:
        if self.may_do(name):
            self.model.fail(name, after, is_kept=is_kept)

    @rule(name=devices)
    def lose_reply(self, name: str) -> None:
        if self.is_here(name):
            self.model.spoil(name, faults.lost_reply())

    @rule(name=devices, kind=st.sampled_from([MlsCommitted, MlsCommitted, MlsWelcome, MlsMessage]))
    def lose_entry(self, name: str, kind: type[faults.Delivery]) -> None:
        if self.is_here(name):
            self.model.spoil(name, faults.lost(kind))

    @rule(name=devices)
    def damage(self, name: str) -> None:
        if self.is_here(name):
            self.model.spoil(name, faults.damaged_message())

    @rule(name=devices, what=st.sampled_from(["request", "reply", "delivery"]))
    def double(self, name: str, what: str) -> None:
        if self.is_here(name):
            self.model.current[name].doubles.add(what)

    # --- time and the server -----------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.0, 0.0, 0.2, 5.0, 90.0]))
    def wait(self, seconds: float) -> None:
        self.do(partial(trio.sleep, seconds))

    @rule()
    def a_month_passes(self) -> None:
        self.do(self.model.a_month_passes)

    @rule()
    def kill_the_server(self) -> None:
        self.do(lambda: self.model.new_server(from_backup=False))

    @rule()
    def back_up_the_server(self) -> None:
        self.do(self.model.server.back_up)

    @precondition(lambda self: self.model.server.has_backup)
    @rule()
    def restore_the_server(self) -> None:
        self.do(lambda: self.model.new_server(from_backup=True))


TestDeliveries = Deliveries.TestCase
TestDeliveries.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    derandomize=not IS_CAMPAIGN,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

"""What a person has told one device and all of their devices are to know: names, and who is verified
(docs/between-devices.md, section 11.3).

Each record has a key and a value, and the time and the device of its last change. Of two records with one key the later
one holds; so devices that know the same records know the same, in whichever order and however often they came:

    merge(a, b) = merge(b, a)      merge(a, merge(b, c)) = merge(merge(a, b), c)      merge(a, a) = a

    kind       key                 value
    ---------  ------------------  --------------------------------
    contact    the name            whom it means; empty: nobody any more
    verified   the client          "yes", or empty
    device     the device key      its name
"""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Literal

import orjson
from attrs import define, field, frozen

from ironwire.e2e.bodies import ContactName, DeviceName, SyncBody, VerifiedMark
from ironwire.ids import ClientId, parse_address

RECORDS_AT_ONCE = 32
"""Of one message: so many fit into a frame, however long their names are."""

Kind = Literal["contact", "verified", "device"]

_YES = "yes"


@frozen
class OwnRecord:
    """One value, and when and where it was given: `at` in Unix ms, `by` the key of a device in hex."""

    kind: Kind
    key: str
    value: str
    at: int
    by: str

    @property
    def name(self) -> tuple[Kind, str]:
        return self.kind, self.key

    def is_after(self, other: "OwnRecord") -> bool:
        """Whether it holds instead of another one of its name. The value decides where a device has contradicted
        itself, so that all decide alike.
        """
        return (self.at, self.by, self.value) > (other.at, other.by, other.value)


@define(eq=False)
class OwnRecords:
    """The records of one device, each name once."""

    _records: dict[tuple[Kind, str], OwnRecord] = field(factory=dict, init=False)

    def __iter__(self) -> Iterator[OwnRecord]:
        """All of them, in the order of their names."""
        return iter([self._records[name] for name in sorted(self._records)])

    def get(self, kind: Kind, key: str) -> OwnRecord | None:
        return self._records.get((kind, key))

    def merge(self, records: Iterable[OwnRecord]) -> list[OwnRecord]:
        """Take those that hold from now on, and return them."""
        taken: dict[tuple[Kind, str], OwnRecord] = {}
        for each in records:
            known = self._records.get(each.name)
            if known is None or each.is_after(known):
                self._records[each.name] = taken[each.name] = each
        return [*taken.values()]

    def change(self, kind: Kind, key: str, value: str, now_ms: int, device: str) -> OwnRecord | None:
        """A person says on this device that it is so; None: it is so already. It holds from now on, also where the
        clock of another device was ahead.
        """
        known = self.get(kind, key)
        if known is not None and known.value == value:
            return None
        made = OwnRecord(kind, key, value, now_ms if known is None else max(now_ms, known.at + 1), device)
        self._records[made.name] = made
        return made

    @property
    def digest(self) -> str:
        """The same at all devices that know the same."""
        lines = [[each.kind, each.key, each.value, each.at, each.by] for each in self]
        return hashlib.sha256(orjson.dumps(lines)).hexdigest()


# --- as messages -----------------------------------------------------------------------------------------------------


def messages_of(records: Iterable[OwnRecord], digest: str) -> list[SyncBody]:
    """The messages that tell other devices of the records, and at last of everything that is known here."""
    left = list(records)
    bodies = []
    while len(left) > RECORDS_AT_ONCE:
        bodies.append(_message(left[:RECORDS_AT_ONCE]))
        left = left[RECORDS_AT_ONCE:]
    return [*bodies, _message(left, digest)]


def records_of(body: SyncBody) -> list[OwnRecord]:
    """The records in a message."""
    marks, contacts, devices = body.verified or (), body.contacts or (), body.devices or ()
    return [
        *(OwnRecord("verified", each.client, _YES if each.verified else "", each.at, each.by) for each in marks),
        *(OwnRecord("contact", each.name, each.who or "", each.at, each.by) for each in contacts),
        *(OwnRecord("device", each.device, each.name, each.at, each.by) for each in devices),
    ]


def _message(records: list[OwnRecord], digest: str | None = None) -> SyncBody:
    marks, contacts, devices = [], [], []
    for each in records:
        match each.kind:
            case "verified":
                marks.append(VerifiedMark(ClientId(each.key), each.value == _YES, each.at, each.by))
            case "contact":
                who = parse_address(each.value) if each.value else None
                contacts.append(ContactName(each.key, each.at, each.by, who))
            case _:
                devices.append(DeviceName(each.key, each.value, each.at, each.by))
    return SyncBody(verified=marks or None, contacts=contacts or None, devices=devices or None, state=digest)

"""Names for clients and groups, and who is verified: JSON files beside the identity's key, of that identity alone.

    identity.key.contacts    {"bob": "<client id>", "friends": "#…"}
    identity.key.verified    {"<client id>": <when, in Unix ms>}

A verification is of an id, whatever it is called.

Rule: the names are this user's own. No peer can choose one, a name never looks like an id, and an id needs no name to
be used. A group that is no contact is shown by the name that its admins gave it, in quotation marks, which no contact's
name contains; nothing can be addressed by that name.
"""

import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from attrs import define, field

from ironwire.cli.notes import Notes
from ironwire.cli.terminal import printable, short_id
from ironwire.errors import InvalidId
from ironwire.ids import Address, ClientId, GroupId, is_group, parse_address, parse_client_id

VERIFIED = "✓"
"""Behind the name of somebody whose safety number was compared."""

Value = TypeVar("Value")

_NAME = re.compile(r"[^\W_][\w.-]{0,31}")


def contacts_path(key: Path) -> Path:
    """The path of the contacts of the identity in the file `key`."""
    return key.with_name(f"{key.name}.contacts")


@define
class AddressBook:
    """The contacts of one identity, and whom its user has verified."""

    _contacts: Notes[Address]
    _verifications: Notes[int]
    _ids: dict[str, Address]
    _verified: dict[str, int] = field(factory=dict)
    group_names: Mapping[GroupId, str] = field(factory=dict)
    """The own names of groups, where they are known."""

    @classmethod
    def beside(cls, key: Path) -> "AddressBook":
        """The book beside the identity file `key`; empty where there is none yet.

        Raises:
            ConfigError: the file cannot be read, or does not hold names and ids.
        """
        contacts = Notes(contacts_path(key), "contacts", _parse_contact)
        verifications = Notes(key.with_name(f"{key.name}.verified"), "verified ids", _parse_verification)
        return cls(contacts, verifications, contacts.read(), verifications.read())

    def __len__(self) -> int:
        return len(self._ids)

    def all(self) -> Mapping[str, Address]:
        """Every contact, sorted by name."""
        return dict(sorted(self._ids.items()))

    def add(self, name: str, address: Address, *, is_new: bool = False) -> Address | None:
        """Name `address`; an older meaning of the name is replaced, and returned.

        Args:
            is_new: the name must not have a meaning yet.

        Raises:
            InvalidId: not a name, or not a new one.
            ConfigError: the file cannot be written.
        """
        known = parse_name(name)
        with self._contacts.changing() as ids:
            if is_new and known in ids:
                raise InvalidId(f"{name!r} is a contact already")
            former = ids.get(known)
            ids[known] = address
        self._ids = ids
        return former

    def remove(self, name: str) -> None:
        """Raises:
        InvalidId: nobody has that name.
        ConfigError: the file cannot be written.
        """
        with self._contacts.changing() as ids:
            if ids.pop(unicodedata.normalize("NFC", name), None) is None:
                raise InvalidId(f"no contact is named {name!r}; `ironwire contacts list` shows them all")
        self._ids = ids

    def address(self, text: str) -> Address:
        """The address that `text` means: a contact's name, or an id, in upper or in lower case.

        Raises:
            InvalidId: neither.
        """
        known = self._ids.get(unicodedata.normalize("NFC", text))
        if known is not None:
            return known
        try:
            return parse_address(text.lower())
        except InvalidId:
            raise InvalidId(
                f"{text!r} is neither a contact nor the id of a client (64 hex digits) or a group (# and 32 of them); "
                "add a name with `ironwire contacts add NAME ID`"
            ) from None

    def client(self, text: str) -> ClientId:
        """The client that `text` means.

        Raises:
            InvalidId: none, or a group.
        """
        address = self.address(text)
        if is_group(address):
            raise InvalidId(f"{text!r} is a group; this is about one client")
        return ClientId(address)

    def group(self, text: str) -> GroupId:
        """The group that `text` means.

        Raises:
            InvalidId: none, or a client.
        """
        address = self.address(text)
        if not is_group(address):
            raise InvalidId(f"{text!r} is a client; `ironwire group list` shows your groups")
        return GroupId(address)

    def refresh(self) -> None:
        """Read the files again, which other programs may have changed.

        Raises:
            ConfigError: one cannot be read.
        """
        self._ids, self._verified = self._contacts.read(), self._verifications.read()

    def differs(self, other: "AddressBook") -> bool:
        """Whether the files have changed between the two."""
        return (self._ids, self._verified) != (other._ids, other._verified)

    def is_verified(self, address: Address) -> bool:
        """Whether the user has compared the safety number of this client."""
        return address in self._verified

    def verified(self) -> list[ClientId]:
        """Everybody whose safety number was compared."""
        return [*map(ClientId, sorted(self._verified))]

    def verified_ms(self, client: ClientId) -> int | None:
        """When that was."""
        return self._verified.get(client)

    def verify(self, client: ClientId, now_ms: int | None) -> None:
        """Note that the safety number was compared at `now_ms`; None takes that back.

        Raises:
            ConfigError: the file cannot be written.
        """
        with self._verifications.changing() as verified:
            if now_ms is None:
                verified.pop(client, None)
            else:
                verified[client] = now_ms
        self._verified = verified

    def take(self, names: Mapping[str, Address | None], marks: Mapping[ClientId, int | None]) -> None:
        """Have these names, and when these clients were verified, as another device of this user says; None: not any
        more.

        Raises:
            ConfigError: a file cannot be written.
        """
        if names:
            with self._contacts.changing() as ids:
                _put(ids, names)
            self._ids = ids
        if marks:
            with self._verifications.changing() as verified:
                _put(verified, marks)
            self._verified = verified

    def is_known(self, address: Address) -> bool:
        """Whether it is a contact."""
        return self._name(address) is not None

    def label(self, address: Address) -> str:
        """How `address` is shown: by its name, else by a group's own name in quotation marks, else by a short id."""
        own = self.group_names.get(GroupId(address))
        return self._name(address) or (f"“{printable(own)}”" if own else short_id(address))

    def entry(self, address: Address) -> str:
        """A text that `self.address` takes for `address`: its name, else the whole id."""
        return self._name(address) or address

    def _name(self, address: Address) -> str | None:
        return next((name for name, known in self._ids.items() if known == address), None)


def _put(known: dict[str, Value], changes: Mapping[str, Value | None] | Mapping[ClientId, Value | None]) -> None:
    for name, value in changes.items():
        if value is None:
            known.pop(name, None)
        else:
            known[name] = value


def parse_name(text: str) -> str:
    """A contact's name: 1 to 32 letters, digits, `.`, `_` and `-`, the first a letter or a digit; so never an id.

    Raises:
        InvalidId: anything else.
    """
    name = unicodedata.normalize("NFC", text)
    if _NAME.fullmatch(name) is None:
        raise InvalidId("a contact's name is 1 to 32 letters, digits and . _ -, and starts with a letter or a digit")
    return name


def _parse_contact(name: str, address: object) -> tuple[str, Address]:
    if not isinstance(address, str):
        raise InvalidId("not an object of names and ids")
    return parse_name(name), parse_address(address)


def _parse_verification(client: str, when_ms: object) -> tuple[str, int]:
    if type(when_ms) is not int:
        raise InvalidId("not an object of ids and times")
    return parse_client_id(client), when_ms

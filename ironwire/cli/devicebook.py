"""What this user calls the devices of an identity, and which of them the user was told of: a JSON file beside the key.

    identity.key.devices    {"<device key>": {"name": "<name, or nothing>", "revoked": <the user was told>}}

Rule: a device that is not in the file is news, and is shown before it is put there. A name that was given here stays,
whatever the server calls the device.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypedDict

from attrs import define, frozen

from ironwire.cli.notes import Notes
from ironwire.cli.terminal import printable
from ironwire.errors import InvalidId

if TYPE_CHECKING:  # completion needs the names, and not what verifies signatures
    from ironwire.protocol.devices.log import DeviceLog, LoggedDevice

_KEY = re.compile(r"[0-9a-f]{64}")
_FINGERPRINT_DIGITS = 32
_GROUP = 4
_SHORT_DIGITS = 8
_NAME_CHARS = 64


def fingerprint(device_key: str) -> str:
    """The part of a device's key that people compare: eight groups of four hex digits, in one line of 39 columns."""
    return " ".join(device_key[start : start + _GROUP] for start in range(0, _FINGERPRINT_DIGITS, _GROUP))


def short_fingerprint(device_key: str) -> str:
    """Enough of it to name the device in a command."""
    return device_key[:_SHORT_DIGITS]


def parse_device_name(text: str) -> str:
    """A name for a device: 1 to 64 characters that can be seen, and no fingerprint.

    Raises:
        InvalidId: anything else.
    """
    name = text.strip()
    if not 0 < len(name) <= _NAME_CHARS or printable(name) != name or _looks_like_fingerprint(name):
        raise InvalidId(
            f"a device's name is 1 to {_NAME_CHARS} characters that can be seen, and not only hex digits, 8 or more"
        )
    return name


def _looks_like_fingerprint(text: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{8,64}", _digits(text)) is not None


def _digits(text: str) -> str:
    return "".join(text.split()).lower()


@frozen
class NamedDevice:
    """A device of this identity, as its user knows it. `key` is None for one that has no key of its own."""

    name: str
    key: str | None


@frozen
class DeviceNews:
    """A device that was linked or revoked. `name` may be empty; `linked_ms` is None where that is no news."""

    key: str
    name: str
    linked_ms: int | None
    revoked_ms: int | None


class KnownDevice(TypedDict):
    """What the file has of a device: its name, perhaps empty, and whether the user was told that it is revoked."""

    name: str
    revoked: bool


@define
class DeviceBook:
    """The devices of one identity, as far as its user was told of them."""

    _notes: Notes[KnownDevice]
    _known: dict[str, KnownDevice]

    @classmethod
    def beside(cls, key: Path) -> Self:
        """The book beside the key file `key`; empty where there is none yet.

        Raises:
            ConfigError: the file cannot be read, or does not hold keys and names.
        """
        notes = Notes(key.with_name(f"{key.name}.devices"), "names of devices", _parse)
        return cls(notes, notes.read())

    @property
    def names(self) -> list[str]:
        """Every name of a device that is one, given or learned here."""
        return sorted(filter(None, _names(self._known)))

    def label(self, device_key: str, else_name: str = "") -> str:
        """How the device is shown: by its name here, else by the one given, else by the first digits of its key."""
        known = self._known.get(device_key)
        return (known and known["name"]) or else_name or f"{short_fingerprint(device_key)}…"

    def note(self, devices: Iterable[NamedDevice]) -> None:
        """Have the user told of these devices. A name that a device has stays; `rename` changes one.

        Raises:
            ConfigError: the file cannot be written.
        """
        wanted = {device.key: _fit(device.name) for device in devices if device.key is not None}
        if all(key in self._known and (self._known[key]["name"] or not name) for key, name in wanted.items()):
            return
        with self._notes.changing() as known:
            for key, name in wanted.items():
                former = known.get(key, KnownDevice(name="", revoked=False))
                is_free = name not in _names(known, but=key)
                known[key] = KnownDevice(name=former["name"] or (name if is_free else ""), revoked=former["revoked"])
        self._known = known

    @property
    def is_empty(self) -> bool:
        """Whether the user was told of no device yet."""
        return not self._known

    def given_names(self) -> dict[str, str]:
        """The name of each device that has one here and was not revoked, by its key."""
        return {key: device["name"] for key, device in self._known.items() if device["name"] and not device["revoked"]}

    def take_names(self, names: Mapping[str, str]) -> None:
        """Call these devices so, by their keys, as another device of this user does; but none by the name of another.

        Raises:
            ConfigError: the file cannot be written.
        """
        if not names:
            return
        with self._notes.changing() as known:
            for key, name in names.items():
                former = known.get(key, KnownDevice(name="", revoked=False))
                if name not in _names(known, but=key):
                    known[key] = KnownDevice(name=name, revoked=former["revoked"])
        self._known = known

    def take_news(self, log: "DeviceLog", own_key: str | None) -> list[DeviceNews]:
        """Changes of the log that the user was not told of, and is now. Of its own device nobody is told that it was
        linked. With an empty book everything is as it should be: this computer has just become a device.

        Raises:
            ConfigError: the file cannot be written.
        """
        logged = {device.key.raw.hex(): device for device in log.devices.values()}
        if all(
            key in self._known and self._known[key]["revoked"] != device.is_current for key, device in logged.items()
        ):
            return []
        news: list[DeviceNews] = []
        with self._notes.changing() as known:
            is_first = not known
            for key, device in logged.items():
                former = known.get(key)
                is_linked = former is None and key != own_key
                is_revoked = not device.is_current and not (former and former["revoked"])
                known[key] = KnownDevice(name=former["name"] if former else "", revoked=not device.is_current)
                if (is_linked or is_revoked) and not is_first:
                    linked_ms = device.added_ms if is_linked else None
                    news.append(DeviceNews(key, known[key]["name"], linked_ms, device.removed_ms))
        self._known = known
        return news

    def _is_told(self, device_key: str, device: "LoggedDevice") -> bool:
        known = self._known.get(device_key)
        return known is not None and known["revoked"] != device.is_current

    def mark_revoked(self, device_key: str) -> None:
        """The user has revoked the device here, and its name is free again.

        Raises:
            ConfigError: the file cannot be written.
        """
        with self._notes.changing() as known:
            former = known.get(device_key)
            known[device_key] = KnownDevice(name=former["name"] if former else "", revoked=True)
        self._known = known

    def rename(self, device_key: str, name: str) -> None:
        """Call the device so from now on.

        Raises:
            InvalidId: another device is called so, or this is no name.
            ConfigError: the file cannot be written.
        """
        wanted = parse_device_name(name)
        with self._notes.changing() as known:
            if wanted in _names(known, but=device_key):
                raise InvalidId(f"another device is called {wanted}: choose another name")
            former = known.get(device_key)
            known[device_key] = KnownDevice(name=wanted, revoked=bool(former and former["revoked"]))
        self._known = known


def find_device(devices: Iterable[NamedDevice], text: str) -> NamedDevice:
    """The device that `text` means: a name, or the first eight or more digits of a fingerprint.

    Raises:
        InvalidId: none, or more than one.
    """
    known = list(devices)
    found = [device for device in known if device.name == text.strip()]
    if not found and _looks_like_fingerprint(text):
        found = [device for device in known if device.key is not None and device.key.startswith(_digits(text))]
    if len(found) == 1:
        return found[0]
    if found:
        raise InvalidId(f"more than one device is called {text!r}: name it by its fingerprint")
    raise InvalidId(f"no device is called {text!r}; `ironwire device list` shows them all")


def _parse(device_key: str, known: object) -> tuple[str, KnownDevice]:
    match known:
        case {"name": str(name), "revoked": bool(is_revoked), **rest} if not rest and _KEY.fullmatch(device_key):
            return device_key, KnownDevice(name=name and parse_device_name(name), revoked=is_revoked)
        case _:
            raise InvalidId("not an object of device keys and what is known of them")


def _names(known: Mapping[str, KnownDevice], but: str = "") -> set[str]:
    """The names that are taken: of all devices but one, and of none that is revoked."""
    return {device["name"] for key, device in known.items() if key != but and not device["revoked"]}


def _fit(name: str) -> str:
    """A name that a device gave itself, or nothing where it could mislead."""
    try:
        return parse_device_name(name)
    except InvalidId:
        return ""

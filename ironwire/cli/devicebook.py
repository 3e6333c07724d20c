"""What this user calls the devices of an identity, and which of them the user was told of: a JSON file beside the key.

    identity.key.devices    {"<device key>": "<name, or nothing>"}

Rule: a device that is not in the file is news, and is shown before it is put there. A name that was given here stays,
whatever the server calls the device.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from attrs import define, frozen

from ironwire.cli.notes import Notes
from ironwire.cli.terminal import printable
from ironwire.errors import InvalidId

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


@define
class DeviceBook:
    """The names of the devices of one identity."""

    _notes: Notes[str]
    _names: dict[str, str]

    @classmethod
    def beside(cls, key: Path) -> Self:
        """The book beside the key file `key`; empty where there is none yet.

        Raises:
            ConfigError: the file cannot be read, or does not hold keys and names.
        """
        notes = Notes(key.with_name(f"{key.name}.devices"), "names of devices", _parse)
        return cls(notes, notes.read())

    @property
    def is_new(self) -> bool:
        """Whether nothing was ever written: then nothing is news."""
        return not self._names

    @property
    def names(self) -> list[str]:
        """Every name that was given or learned here."""
        return sorted(filter(None, self._names.values()))

    def knows(self, device_key: str) -> bool:
        """Whether the user was told of this device."""
        return device_key in self._names

    def name(self, device_key: str) -> str | None:
        """The name that was given or learned here."""
        return self._names.get(device_key) or None

    def label(self, device_key: str) -> str:
        """How the device is shown: by its name, else by the first digits of its key."""
        return self.name(device_key) or f"{short_fingerprint(device_key)}…"

    def note(self, devices: Iterable[NamedDevice]) -> None:
        """Have the user told of these devices. A name that a device has stays; `rename` changes one.

        Raises:
            ConfigError: the file cannot be written.
        """
        wanted = {device.key: device.name for device in devices if device.key is not None}
        if all(self._names.get(key) or (key in self._names and not name) for key, name in wanted.items()):
            return
        with self._notes.changing() as names:
            for key, name in wanted.items():
                taken = {other for each, other in names.items() if each != key}
                names[key] = names.get(key) or ("" if name in taken else name)
        self._names = names

    def rename(self, device_key: str, name: str) -> None:
        """Call the device so from now on.

        Raises:
            InvalidId: another device is called so, or this is no name.
            ConfigError: the file cannot be written.
        """
        known = parse_device_name(name)
        with self._notes.changing() as names:
            if known in {other for each, other in names.items() if each != device_key}:
                raise InvalidId(f"another device is called {known}: choose another name")
            names[device_key] = known
        self._names = names


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


def _parse(device_key: str, name: object) -> tuple[str, str]:
    if not isinstance(name, str) or _KEY.fullmatch(device_key) is None:
        raise InvalidId("not an object of device keys and names")
    return device_key, name and parse_device_name(name)

"""Names for clients and groups: a small JSON file beside the identity's key, of that identity alone.

Rule: the names are this user's own. No peer can choose one, a name never looks like an id, and an id needs no name to
be used. A group that is no contact is shown by the name that its admins gave it, in quotation marks, which no contact's
name contains; nothing can be addressed by that name.
"""

import fcntl
import json
import os
import re
import tempfile
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from attrs import define, field

from ironwire.cli.terminal import printable, short_id
from ironwire.errors import ConfigError, InvalidId
from ironwire.ids import Address, ClientId, GroupId, is_group, parse_address

_FILE_MODE = 0o600
_NAME = re.compile(r"[^\W_][\w.-]{0,31}")


def contacts_path(key: Path) -> Path:
    """The path of the contacts of the identity in the file `key`."""
    return key.with_name(f"{key.name}.contacts")


@define
class AddressBook:
    """The contacts of one identity. A change is made to the file as it is then, under a lock, and written as a whole:
    programs that change it at the same time lose nothing.
    """

    _path: Path
    _ids: dict[str, Address]
    group_names: Mapping[GroupId, str] = field(factory=dict)
    """The own names of groups, where they are known."""

    @classmethod
    def beside(cls, key: Path) -> "AddressBook":
        """The book beside the identity file `key`; empty where there is none yet.

        Raises:
            ConfigError: the file cannot be read, or does not hold names and ids.
        """
        path = contacts_path(key)
        return cls(path, _read(path))

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
        with self._changing() as ids:
            if is_new and known in ids:
                raise InvalidId(f"{name!r} is a contact already")
            former = ids.get(known)
            ids[known] = address
        return former

    def remove(self, name: str) -> None:
        """Raises:
        InvalidId: nobody has that name.
        ConfigError: the file cannot be written.
        """
        with self._changing() as ids:
            if ids.pop(unicodedata.normalize("NFC", name), None) is None:
                raise InvalidId(f"no contact is named {name!r}; `ironwire contacts list` shows them all")

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

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Address]]:
        """The contacts as they are now, to be changed; they are written when the block ends without an exception."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with _locked(self._path):
                ids = _read(self._path)
                yield ids
                _replace(self._path, json.dumps(ids, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
                self._ids = ids
        except OSError as error:
            raise ConfigError(f"{self._path}: the contacts cannot be saved: {error.strerror}") from error


def parse_name(text: str) -> str:
    """A contact's name: 1 to 32 letters, digits, `.`, `_` and `-`, the first a letter or a digit; so never an id.

    Raises:
        InvalidId: anything else.
    """
    name = unicodedata.normalize("NFC", text)
    if _NAME.fullmatch(name) is None:
        raise InvalidId("a contact's name is 1 to 32 letters, digits and . _ -, and starts with a letter or a digit")
    return name


def _read(path: Path) -> dict[str, Address]:
    """The content of the file; empty where there is none."""
    try:
        return _parse(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(f"{path}: the contacts cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: these are no contacts ({error}); mend the file or move it away") from error


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Alone with `path`. The lock is a file beside it, because `path` is replaced by another file."""
    lock = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _parse(text: str) -> dict[str, Address]:
    content = json.loads(text)
    if not isinstance(content, dict) or not all(isinstance(address, str) for address in content.values()):
        raise InvalidId("not an object of names and ids")
    return {parse_name(name): parse_address(address) for name, address in content.items()}


def _replace(path: Path, text: str) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise

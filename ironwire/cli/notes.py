"""Small JSON files of this user beside the key file: contacts, verified people, names of devices.

Each is changed as it is then, under a lock, and written as a whole: programs that change it at the same time lose
nothing.
"""

import fcntl
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

from attrs import frozen

from ironwire.errors import ConfigError

_FILE_MODE = 0o600

Value = TypeVar("Value")


@frozen
class Notes(Generic[Value]):
    """The file at `path`: a JSON object, whose names and values `parse` checks. `subject` is a plural, for errors."""

    path: Path
    subject: str
    parse: Callable[[str, object], tuple[str, Value]]
    """Raises ValueError for what cannot stand there."""
    encode: Callable[[Value], object] = lambda value: value

    def read(self) -> dict[str, Value]:
        """The content; empty where there is no file.

        Raises:
            ConfigError: the file cannot be read, or holds something else.
        """
        try:
            content = json.loads(self.path.read_text(encoding="utf-8-sig"))
            if not isinstance(content, dict):
                raise ValueError("not a JSON object")
            return dict(self.parse(name, value) for name, value in content.items())
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise ConfigError(f"{self.path}: the {self.subject} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise ConfigError(
                f"{self.path}: these are no {self.subject} ({error}); mend the file or move it away"
            ) from error

    @contextmanager
    def changing(self) -> Iterator[dict[str, Value]]:
        """The content as it is now, to be changed; it is written when the block ends without an exception.

        Raises:
            ConfigError: the file cannot be read or written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with _locked(self.path):
                content = self.read()
                yield content
                encoded = {name: self.encode(value) for name, value in content.items()}
                _replace(self.path, json.dumps(encoded, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
        except OSError as error:
            raise ConfigError(f"{self.path}: the {self.subject} cannot be saved: {error.strerror}") from error


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Alone with `path`. The lock is a file beside it, because `path` is replaced by another file."""
    lock = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


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

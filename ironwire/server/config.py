"""The settings of the server, parsed once into frozen classes.

Sources, each overruling those before it: the defaults here, one TOML file, `IRONWIRE_*` in the environment, options of
the command line. Typed Settings lists the options, merges the sources and builds the classes; this module decides what
a value may look like. A setting is used as it was written or refused by name: a typing error never becomes a default.
"""

import difflib
import json
import os
import sys
import textwrap
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import attrs
import typed_settings
from attrs import field, frozen
from attrs.validators import ge, le
from typed_settings.cls_utils import deep_options
from typed_settings.dict_utils import set_path
from typed_settings.types import LoadedSettings, LoaderMeta, OptionInfo, OptionList, SettingsClass, SettingsDict

from ironwire.errors import ConfigError
from ironwire.ids import Origin, parse_origin
from ironwire.limits import Limits

ENV_PREFIX = "IRONWIRE_"
FILE_VARIABLE = "IRONWIRE_SETTINGS"
DEFAULT_FILE = Path("ironwire.toml")

_OTHER_VARIABLES = {
    FILE_VARIABLE,
    "IRONWIRE_SERVER",  # the client's: where to connect
    "IRONWIRE_KEY",  # the client's: the file with the identity key
    "IRONWIRE_PASSPHRASE",  # the client's: unlocks that file
    "IRONWIRE_VECTORS",  # the tests': where the test vectors are
    "IRONWIRE_PEERS",  # the benchmarks': the servers to compare with
}
"""Variables with the prefix that are no settings. Any other is a typing error and refused."""


@frozen(kw_only=True)
class ServerSettings:
    """Where the server listens."""

    host: str = "0.0.0.0"  # noqa: S104 - a server that people are to reach; clients prove who they are
    """The address to listen on. `127.0.0.1` behind a proxy on the same machine."""

    port: int = field(default=8080, validator=[ge(0), le(65535)])
    """The port to listen on; 0 takes any free one."""

    backlog: int = field(default=4096, validator=ge(1))
    """Connections that wait to be accepted. A small number makes a reconnecting crowd slow."""

    certfile: Path | None = None
    """The TLS certificate with its chain, PEM. With `keyfile` the server speaks TLS itself."""

    keyfile: Path | None = None
    """The private key of `certfile`, PEM, not encrypted."""


def _parse_origins(texts: Iterable[str]) -> tuple[Origin, ...]:
    return tuple(parse_origin(text) for text in texts)


@frozen(kw_only=True)
class AuthSettings:
    """What a client has to prove."""

    require_origin: bool = False
    """Whether a client must sign the origin it believes it talks to, which clients of the seed protocol cannot."""

    origins: tuple[Origin, ...] = field(default=(), converter=_parse_origins)
    """Where clients reach this server, as in `https://chat.example`. Empty: the very address a connection came to."""


@frozen(kw_only=True)
class LogSettings:
    """What is said on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important kind of event that is written."""

    format: Literal["auto", "console", "json"] = "auto"
    """Lines for people or one JSON object a line; `auto` looks whether a terminal reads them."""


@frozen(kw_only=True)
class HistorySettings:
    """What stays readable after it was delivered."""

    days: float = field(default=0, validator=ge(0), converter=float)
    """How long envelopes stay readable after every device has acknowledged them; 0 erases them at once."""


@frozen(kw_only=True)
class Settings:
    """Everything an operator can choose."""

    data: Path = Path("ironwire-data")
    """The folder that holds all that must survive: mailboxes and uploaded files."""

    transport: Literal["auto", "portable"] = "auto"
    """`auto` takes sockets over from Hypercorn where it can, for speed; `portable` always stays within ASGI."""

    server: ServerSettings = field(factory=ServerSettings)
    auth: AuthSettings = field(factory=AuthSettings)
    limits: Limits = field(factory=Limits)
    history: HistorySettings = field(factory=HistorySettings)
    log: LogSettings = field(factory=LogSettings)

    def served_origins(self, address: str, port: int) -> frozenset[Origin]:
        """The origins this server answers to on a connection that arrived at `address` and `port`.

        Those configured; else that very address, and `localhost` where it is a loopback address. What a client says in
        its Host header proves nothing: a server that passes challenges on can say anything there.
        """
        if self.auth.origins:
            return frozenset(self.auth.origins)
        scheme = "http" if self.server.certfile is None else "https"
        ip = ip_address(address)
        hosts = [f"[{ip}]" if ip.version == 6 else str(ip)]
        if ip.is_loopback:
            hosts.append("localhost")
        return frozenset(parse_origin(f"{scheme}://{host}:{port}") for host in hosts)


def load_settings(config_file: Path | None = None, overrides: Mapping[str, object] | None = None) -> Settings:
    """The settings that hold for this process.

    The file is `config_file`, else the one that `IRONWIRE_SETTINGS` names, else `ironwire.toml` in the working folder
    if it exists. A relative path in a file starts at the folder of that file; anywhere else, at the working folder.

    Args:
        config_file: must exist if given.
        overrides: values by path, as in `{"server.port": 9000}`; `None` stands for an option that was not given.

    Raises:
        ConfigError: a source cannot be read, names what is no setting, or holds a value that cannot be used.
    """
    file = config_file or _configured_file()
    sources = [_read_environment(os.environ), _read_overrides(overrides or {})]
    if file is not None:
        sources.insert(0, _read_file(file))
    settings = typed_settings.load_settings(Settings, sources)
    _check_tls(settings.server)
    return settings


def example_toml() -> str:
    """A settings file that names and explains every setting and, its values being commented out, changes none."""
    lines: list[str] = []
    section = ""
    for path, option in _OPTIONS.items():
        option_section = path.rpartition(".")[0]
        if option_section != section:
            section = option_section
            lines += [f"[{section}]", ""]
        help_text = " ".join(option.metadata["click"]["help"].split())
        lines += textwrap.wrap(help_text, width=100, initial_indent="# ", subsequent_indent="# ")
        lines += [f"# {option.name} = {_toml(option.default)}", ""]
    return "\n".join(lines)


@frozen
class _Source:
    """One place where settings come from, in the shape that Typed Settings loads. Its values have been checked."""

    name: str
    values: SettingsDict
    base: Path

    def __call__(self, settings_cls: SettingsClass, options: OptionList) -> LoadedSettings:
        return LoadedSettings(self.values, LoaderMeta(self.name, base_dir=self.base))


def _configured_file() -> Path | None:
    if named := os.environ.get(FILE_VARIABLE):
        return Path(named)
    return DEFAULT_FILE if DEFAULT_FILE.exists() else None


def _read_file(path: Path) -> _Source:
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: the settings file cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: the settings file is not TOML: {error}") from error
    values: SettingsDict = {}
    for name, value in _flatten(tables):
        if name not in _OPTIONS:
            raise ConfigError(f"{path}: {_unknown(name, 'setting', _OPTIONS)}")
        set_path(values, name, _checked(_OPTIONS[name], value, str(path)))
    return _Source(str(path), values, path.resolve().parent)


def _read_environment(environ: Mapping[str, str]) -> _Source:
    values: SettingsDict = {}
    for variable, text in environ.items():
        if not variable.startswith(ENV_PREFIX) or variable in _OTHER_VARIABLES:
            continue
        if variable not in _OPTIONS_BY_VARIABLE:
            raise ConfigError(_unknown(variable, "variable", [*_OPTIONS_BY_VARIABLE, *_OTHER_VARIABLES]))
        option = _OPTIONS_BY_VARIABLE[variable]
        try:
            value = _kind_of(option).read(text)
        except ValueError:
            value = text
        set_path(values, option.path, _checked(option, value, variable))
    return _Source("environment", values, Path.cwd())


def _read_overrides(overrides: Mapping[str, object]) -> _Source:
    values: SettingsDict = {}
    for name, value in overrides.items():
        if value is not None:
            set_path(values, name, _checked(_OPTIONS[name], value, "command line"))
    return _Source("command line", values, Path.cwd())


def _flatten(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _unknown(name: str, what: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"{name} is not a {what}" + (f"; did you mean {close[0]}?" if close else "")


@frozen
class _Kind:
    """A type of option: its name for people, the values it takes, and what the text of an environment variable means.

    `read` raises `ValueError` where the text means nothing; the text is then refused like any value of a wrong type.
    """

    allowed: str
    takes: Callable[[object], bool]
    read: Callable[[str], object]


def _is_number(value: object) -> bool:
    # The comparison refuses what `float` cannot hold: infinities, NaN, and integers of 400 digits.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _is_path(value: object) -> bool:
    return isinstance(value, Path) or (isinstance(value, str) and value != "")


def _read_bool(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("neither true nor false")
    return text == "true"


_PATH = _Kind("a path", takes=_is_path, read=str)
_KINDS: dict[Any, _Kind] = {
    bool: _Kind("true or false", takes=lambda value: isinstance(value, bool), read=_read_bool),
    int: _Kind("a whole number", takes=lambda value: isinstance(value, int) and not isinstance(value, bool), read=int),
    float: _Kind("a number", takes=_is_number, read=float),
    str: _Kind("a text that is not empty", takes=lambda value: isinstance(value, str) and value != "", read=str),
    Path: _PATH,
    Path | None: _PATH,
    tuple[Origin, ...]: _Kind(
        "a list of texts (in the environment: one text, with commas between)",
        takes=lambda value: isinstance(value, list | tuple) and all(isinstance(item, str) for item in value),
        read=lambda text: [item.strip() for item in text.split(",")],
    ),
}


def _kind_of(option: OptionInfo) -> _Kind:
    if get_origin(option.cls) is Literal:
        choices = get_args(option.cls)
        return _Kind(f"one of {', '.join(choices)}", takes=lambda value: value in choices, read=str)
    return _KINDS[option.cls]


def _checked(option: OptionInfo, value: object, source: str) -> object:
    kind = _kind_of(option)
    attribute: attrs.Attribute[Any] = getattr(attrs.fields(option.parent_cls), option.name)
    try:
        if not kind.takes(value):
            raise ValueError(f"must be {kind.allowed}")
        converted = value if option.converter is None else option.converter(value)
        if attribute.validator is not None:
            attribute.validator(None, attribute, converted)
    except ValueError as error:
        raise ConfigError(f"{source}: {option.path} = {value!r} cannot be used: {error}") from error
    return value


def _check_tls(server: ServerSettings) -> None:
    if (server.certfile is None) != (server.keyfile is None):
        raise ConfigError(
            "server.certfile and server.keyfile belong together: set both, or neither and let a proxy speak TLS"
        )
    for name, path in (("certfile", server.certfile), ("keyfile", server.keyfile)):
        if path is not None and not path.is_file():
            raise ConfigError(f"server.{name} = {str(path)!r} cannot be used: there is no such file")


def _toml(value: object) -> str:
    # JSON and TOML agree on texts, numbers, booleans and lists of texts.
    return '""' if value is None else json.dumps(str(value) if isinstance(value, Path) else value)


_OPTIONS = {option.path: option for option in deep_options(Settings)}
_OPTIONS_BY_VARIABLE = {ENV_PREFIX + path.upper().replace(".", "_"): option for path, option in _OPTIONS.items()}

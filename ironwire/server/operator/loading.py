"""Sources of settings: the defaults, one TOML file, `IRONWIRE_*` in the environment, options of the command line.

Each source overrides those before it. A setting is used as it was written or refused by name: a typing error never
becomes a default, and every fault of every source is reported at once. Typed Settings lists the options, merges the
sources and builds the classes; this module decides what a value may look like.
"""

import difflib
import json
import os
import re
import sys
import textwrap
import tomllib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import attrs
import typed_settings
from attrs import define, field, frozen
from typed_settings.cls_utils import deep_options
from typed_settings.dict_utils import set_path
from typed_settings.types import LoadedSettings, LoaderMeta, OptionInfo, OptionList, SettingsClass, SettingsDict

from ironwire.errors import ConfigError
from ironwire.server.operator.config import Settings, contradictions

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
"""Variables with the prefix that are not settings. Any other is a typing error and refused."""

_LINK = re.compile(r"(?:tcp|udp|sctp)://[^/\s]+:[0-9]+", re.IGNORECASE)
_LINK_PORT = re.compile(r"(IRONWIRE(?:_[A-Z0-9_]+)?)_PORT")
_LINK_DETAIL = re.compile(
    r"(IRONWIRE(?:_[A-Z0-9_]+?)??)_(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?"
    r"|PORT_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
)

_UNITS = {"seconds": "seconds", "bytes": "bytes", "ms": "milliseconds", "days": "days"}
"""The unit of a number, by the last word of the setting's name."""

_HIDDEN = "(a secret, not shown)"


@frozen
class Loaded:
    """The settings in effect, and the source of each value by the setting's path; `default` without a source."""

    settings: Settings
    sources: Mapping[str, str]
    ignored: tuple[str, ...] = ()
    """Variables of the environment with the prefix that belong to another program."""


def load_settings(config_file: Path | None = None, overrides: Mapping[str, object] | None = None) -> Settings:
    """The settings of this process, as `load` returns them."""
    return load(config_file, overrides).settings


def load(config_file: Path | None = None, overrides: Mapping[str, object] | None = None) -> Loaded:
    """The settings of this process, with their sources.

    The file is `config_file`, else the one that `IRONWIRE_SETTINGS` names, else `ironwire.toml` in the working folder
    if it exists. A relative path in a file starts at the folder of that file; anywhere else, at the working folder.

    Args:
        config_file: must exist if given.
        overrides: values by path, as in `{"server.port": 9000}`; `None` stands for an option that was not given.

    Raises:
        ConfigError: a source cannot be read, names an unknown setting, or holds a value that cannot be used. It lists
            every fault.
    """
    file = config_file or configured_file()
    sources = [] if file is None else [_read_file(file)]
    links = frozenset(_service_links(os.environ))
    sources += [_read_environment(os.environ, links), _read_overrides(overrides or {})]
    if faults := [fault for source in sources for fault in source.faults]:
        raise ConfigError(*faults)
    settings = typed_settings.load_settings(Settings, sources)
    if faults := list(contradictions(settings)):
        raise ConfigError(*faults)
    return Loaded(settings, {path: source.name for source in sources for path in source.values}, tuple(sorted(links)))


def configured_file() -> Path | None:
    """The settings file where none is named on the command line; None if there is none."""
    if named := os.environ.get(FILE_VARIABLE):
        return Path(named)
    return DEFAULT_FILE if DEFAULT_FILE.exists() else None


def example_toml() -> str:
    """A settings file that explains every setting; all values are commented out."""
    lines: list[str] = []
    section = ""
    for path, option in _OPTIONS.items():
        option_section = path.rpartition(".")[0]
        if option_section != section:
            section = option_section
            lines += [f"[{section}]", ""]
        help_text = " ".join(option.metadata["click"]["help"].split())
        without = "; without the line, there is none" if option.default in (None, "") else ""
        for paragraph in (help_text, f"Allowed: {_allowed(option)}{without}."):
            lines += textwrap.wrap(paragraph, width=100, initial_indent="# ", subsequent_indent="# ")
        lines += [f"# {option.name} = {_toml(option.default)}", ""]
    return "\n".join(lines)


def shown_values(settings: Settings) -> dict[str, str]:
    """Every setting's value as TOML, by its path; a secret shows only whether it is set."""
    shown = {}
    for path, option in _OPTIONS.items():
        value: Any = settings
        for name in path.split("."):
            value = getattr(value, name)
        shown[path] = _HIDDEN if _is_secret(option) and value else _toml(value)
    return shown


def secret_settings() -> list[str]:
    """The paths of the settings whose values no command shows."""
    return [path for path, option in _OPTIONS.items() if _is_secret(option)]


@define
class _Source:
    """One source of settings, in the shape that Typed Settings loads: checked values by path, and every fault of the
    source.
    """

    name: str
    base: Path
    values: dict[str, object] = field(factory=dict)
    faults: list[str] = field(factory=list)

    def __call__(self, settings_cls: SettingsClass, options: OptionList) -> LoadedSettings:
        tables: SettingsDict = {}
        for path, value in self.values.items():
            set_path(tables, path, value)
        return LoadedSettings(tables, LoaderMeta(self.name, base_dir=self.base))

    def take(self, option: OptionInfo, value: object, said_by: str | None = None) -> None:
        """Keep the value if it is valid. A fault names `said_by`, if given, instead of the source."""
        try:
            _check(option, value)
        except (ValueError, ConfigError) as error:
            shown = _HIDDEN if _is_secret(option) else repr(value)
            self.faults.append(f"{said_by or self.name}: {option.path} = {shown} cannot be used: {error}")
        else:
            self.values[option.path] = value


def _read_file(path: Path) -> _Source:
    source = _Source(str(path), path.resolve().parent)
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        source.faults.append(f"{path}: the settings file cannot be read: {error.strerror}")
    except ValueError as error:
        source.faults.append(f"{path}: the settings file is not TOML: {error}")
    else:
        for name, value in _flatten(tables):
            if name in _OPTIONS:
                source.take(_OPTIONS[name], value)
            else:
                source.faults.append(f"{path}: {_unknown(name, 'setting', _OPTIONS)}")
    return source


def _service_links(environ: Mapping[str, str]) -> Iterator[str]:
    """The variables that Kubernetes sets in every container beside a service whose name begins with ours.

    A service `ironwire-metrics` has IRONWIRE_METRICS_PORT=tcp://10.0.0.1:9464, which is a setting's name; it brings all
    of its variables at once, so without one of that form there is no such service, and a typing error stays one.
    """
    services = {
        match[1] for name, value in environ.items() if (match := _LINK_PORT.fullmatch(name)) and _LINK.fullmatch(value)
    }
    for name, value in environ.items():
        port, detail = _LINK_PORT.fullmatch(name), _LINK_DETAIL.fullmatch(name)
        if (port and _LINK.fullmatch(value)) or (detail and detail[1] in services):
            yield name


def _read_environment(environ: Mapping[str, str], ignored: Collection[str]) -> _Source:
    source = _Source("environment", Path.cwd())
    for variable, text in environ.items():
        if not variable.startswith(ENV_PREFIX) or variable in _OTHER_VARIABLES or variable in ignored:
            continue
        if variable not in _OPTIONS_BY_VARIABLE:
            source.faults.append(_unknown(variable, "variable", [*_OPTIONS_BY_VARIABLE, *_OTHER_VARIABLES]))
            continue
        option = _OPTIONS_BY_VARIABLE[variable]
        try:
            value = _kind_of(option).read(text)
        except ValueError:
            value = text
        source.take(option, value, said_by=variable)
    return source


def _read_overrides(overrides: Mapping[str, object]) -> _Source:
    source = _Source("command line", Path.cwd())
    for path, value in overrides.items():
        if value is not None:
            source.take(_OPTIONS[path], value)
    return source


def _flatten(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _unknown(name: str, what: str, known: Iterable[str]) -> str:
    known = list(known)
    in_a_section = [each for each in known if each.endswith(f".{name}")]
    close = in_a_section or difflib.get_close_matches(name, known, n=1)
    return f"{name} is not a {what}" + (f"; did you mean {close[0]}?" if close else "")


@frozen
class _Kind:
    """A type of option: its name for people, the values it takes, and its parser of an environment variable.

    `read` raises `ValueError` for a text that it cannot parse; the text is then refused as a value of a wrong type.
    """

    allowed: str
    takes: Callable[[object], bool]
    read: Callable[[str], object]


def _is_number(value: object) -> bool:
    # The comparison refuses what `float` cannot hold: infinities, NaN, and integers of 400 digits.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _is_path(value: object) -> bool:
    return isinstance(value, Path) or (isinstance(value, str) and value != "" and "\0" not in value)


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
}
_TEXTS = _Kind(
    "a list of texts (in the environment: one text, with commas between)",
    takes=lambda value: isinstance(value, list | tuple) and all(isinstance(item, str) for item in value),
    read=lambda text: [item.strip() for item in text.split(",")],
)


def _kind_of(option: OptionInfo) -> _Kind:
    if get_origin(option.cls) is Literal:
        choices = get_args(option.cls)
        return _Kind(f"one of {', '.join(choices)}", takes=lambda value: value in choices, read=str)
    if get_origin(option.cls) is tuple:
        return _TEXTS
    return _KINDS[option.cls]


def _check(option: OptionInfo, value: object) -> None:
    """Raises:
    ValueError, ConfigError: the value cannot be used; the message says what can.
    """
    kind = _kind_of(option)
    if not kind.takes(value):
        raise ValueError(f"must be {kind.allowed}")
    converted = value if option.converter is None else option.converter(value)
    attribute = _attribute(option)
    if attribute.validator is not None:
        attribute.validator(None, attribute, converted)


def _allowed(option: OptionInfo) -> str:
    """The kind of value, its unit and its bounds: `a whole number of bytes >= 1024`."""
    unit = _UNITS.get(option.name.rpartition("_")[2])
    counted = f" of {unit}" if unit and option.cls in (int, float) else ""
    bounds = ", ".join(_bounds(_attribute(option).validator))
    return f"{_kind_of(option).allowed}{counted} {bounds}".rstrip()


def _bounds(validator: Any) -> Iterator[str]:
    for part in getattr(validator, "_validators", (validator,)):
        if hasattr(part, "bound"):
            yield f"{part.compare_op} {part.bound}"


def _is_secret(option: OptionInfo) -> bool:
    return _attribute(option).repr is False


def _attribute(option: OptionInfo) -> "attrs.Attribute[Any]":  # quoted: generic to the type checker alone
    attribute: attrs.Attribute[Any] = getattr(attrs.fields(option.parent_cls), option.name)
    return attribute


def _toml(value: object) -> str:
    # JSON and TOML agree on texts, numbers, booleans and lists of texts.
    return '""' if value is None else json.dumps(str(value) if isinstance(value, Path) else value)


_OPTIONS = {option.path: option for option in deep_options(Settings)}
_OPTIONS_BY_VARIABLE = {ENV_PREFIX + path.upper().replace(".", "_"): option for path, option in _OPTIONS.items()}

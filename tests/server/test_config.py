"""A setting is used as it was written, or refused by name: nothing is guessed, nothing is silently ignored."""

import re
from pathlib import Path

import pytest
import trustme

from ironwire.errors import ConfigError
from ironwire.limits import Limits
from ironwire.server.operator.config import AuthSettings, ServerSettings, Settings
from ironwire.server.operator.loading import example_toml, load, load_settings


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and an environment without settings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("IRONWIRE_SETTINGS", raising=False)
    return tmp_path


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_without_any_source_the_defaults_hold(folder: Path) -> None:
    settings = load_settings()
    assert settings.server == ServerSettings()
    assert settings.limits == Limits()
    assert settings.data == folder / "ironwire-data"


def test_each_source_overrules_those_before_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder / "ironwire.toml", "[server]\nhost = 'file'\nport = 1\nbacklog = 1\n")
    monkeypatch.setenv("IRONWIRE_SERVER_PORT", "2")
    monkeypatch.setenv("IRONWIRE_SERVER_BACKLOG", "2")
    settings = load_settings(overrides={"server.backlog": 3, "server.host": None})
    assert (settings.server.host, settings.server.port, settings.server.backlog) == ("file", 2, 3)


def test_the_named_file_is_read_instead_of_the_one_in_the_working_directory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder / "ironwire.toml", "server.port = 1")
    by_variable = write(folder / "variable.toml", "server.port = 2")
    by_option = write(folder / "option.conf", "server.port = 3")
    assert load_settings().server.port == 1
    monkeypatch.setenv("IRONWIRE_SETTINGS", str(by_variable))
    assert load_settings().server.port == 2
    assert load_settings(by_option).server.port == 3


def test_every_type_of_setting_can_be_written_in_toml(folder: Path) -> None:
    file = write(
        folder / "all.toml",
        """
        data = "/srv/mail"
        server = {host = "127.0.0.1", port = 0}
        auth = {require_origin = true, origins = ["wss://Chat.Example:443", "http://[::1]:8080"]}
        limits = {auth_seconds = 2, pong_seconds = 1.5, frame_bytes = 2048}
        log.level = "debug"
        """,
    )
    settings = load_settings(file)
    assert settings.data == Path("/srv/mail")
    assert settings.auth == AuthSettings(require_origin=True, origins=("https://chat.example", "http://[::1]:8080"))
    assert settings.limits == Limits(auth_seconds=2, pong_seconds=1.5, frame_bytes=2048)
    assert settings.log.level == "debug"


def test_a_file_may_begin_with_a_byte_order_mark(folder: Path) -> None:
    file = folder / "windows.toml"
    file.write_bytes(b"\xef\xbb\xbf[server]\r\nport = 2\r\n")
    assert load_settings(file).server.port == 2


KUBERNETES = {
    "IRONWIRE_PORT": "tcp://10.0.0.1:8080",
    "IRONWIRE_PORT_8080_TCP": "tcp://10.0.0.1:8080",
    "IRONWIRE_PORT_8080_TCP_ADDR": "10.0.0.1",
    "IRONWIRE_PORT_8080_TCP_PORT": "8080",
    "IRONWIRE_PORT_8080_TCP_PROTO": "tcp",
    "IRONWIRE_SERVICE_HOST": "10.0.0.1",
    "IRONWIRE_SERVICE_PORT": "8080",
    "IRONWIRE_SERVICE_PORT_HTTP": "8080",
}


def test_the_variables_of_a_kubernetes_service_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KUBERNETES.items():
        monkeypatch.setenv(name, value)
        monkeypatch.setenv(name.replace("IRONWIRE_", "IRONWIRE_SERVER_"), value)  # where a link has a setting's name
    loaded = load()
    assert loaded.settings.server == ServerSettings()
    assert len(loaded.ignored) == 2 * len(KUBERNETES)
    monkeypatch.setenv("IRONWIRE_METRICS_PORT", "9464")
    assert load_settings().metrics.port == 9464


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("IRONWIRE_PORT", "8080"),
        ("IRONWIRE_SERVICE_HOST", "127.0.0.1"),
        ("IRONWIRE_SERVICE_PORT", "9000"),
        ("IRONWIRE_SERVER_PORT", "tcp"),
    ],
)
def test_what_only_looks_like_a_service_is_a_typing_error(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=name):
        load_settings()


def test_every_type_of_setting_can_be_written_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRONWIRE_DATA", "/srv/mail")
    monkeypatch.setenv("IRONWIRE_AUTH_REQUIRE_ORIGIN", "true")
    monkeypatch.setenv("IRONWIRE_AUTH_ORIGINS", "https://a.example, https://b.example")
    monkeypatch.setenv("IRONWIRE_LIMITS_AUTH_SECONDS", "0.5")
    monkeypatch.setenv("IRONWIRE_LIMITS_SESSIONS_PER_CLIENT", "4")
    monkeypatch.setenv("IRONWIRE_LOG_FORMAT", "json")
    settings = load_settings()
    assert settings.data == Path("/srv/mail")
    assert settings.auth == AuthSettings(require_origin=True, origins=("https://a.example", "https://b.example"))
    assert settings.limits == Limits(auth_seconds=0.5, sessions_per_client=4)
    assert settings.log.format == "json"


def test_a_relative_path_in_a_file_starts_at_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "etc").mkdir()
    file = write(folder / "etc" / "ironwire.toml", "data = 'mail'")
    assert load_settings(file).data == folder / "etc" / "mail"
    monkeypatch.setenv("IRONWIRE_DATA", "mail")
    assert load_settings(file).data == folder / "mail"


@pytest.mark.parametrize(
    ("toml", "complaint"),
    [
        ("server.port = 'yes'", "server.port = 'yes' cannot be used: must be a whole number"),
        ("server.port = '8080'", "must be a whole number"),
        ("server.port = true", "must be a whole number"),
        ("server.port = 80.0", "must be a whole number"),
        ("server.port = 65536", "must be <= 65535"),
        ("server.port = -1", "must be >= 0"),
        ("server.host = ''", "must be a text that is not empty"),
        ("server.host = '[::1]'", "must be an IP address, an IPv6 one without brackets, or the name of a host"),
        ("metrics.host = 'two words'", "must be an IP address"),
        ("metrics.host = '" + 64 * "a" + ".example'", "must be an IP address"),
        ('server.host = "nul\\u0000"', "must be an IP address"),
        ("server.backlog = 1" + "0" * 20, "must be <= 65535"),
        ('data = "nul\\u0000"', "must be a path"),
        ("auth.require_origin = 1", "must be true or false"),
        ("auth.origins = 'https://chat.example'", "must be a list of texts"),
        ("auth.origins = [1]", "must be a list of texts"),
        ("auth.origins = ['chat.example']", "must be an origin"),
        ("limits.auth_seconds = true", "must be a number"),
        ("limits.auth_seconds = inf", "must be a number"),
        ("limits.auth_seconds = nan", "must be a number"),
        ("limits.auth_seconds = 1" + "0" * 400, "must be a number"),
        ("limits.auth_seconds = 0", "must be > 0"),
        ("limits.frame_bytes = 10", "must be >= 1024"),
        ("limits.frame_bytes = 1" + "0" * 20, "must be <= 1044480"),
        ("limits.connections = 1" + "0" * 20, "must be <= 1000000000000"),
        ("limits.header_seconds = 1e300", "must be <= 1000000000"),
        ("limits.messages_per_second = 1e-300", "must be >= 0.001"),
        ("limits.retention_days = 1e300", "must be <= 36500"),
        ("upload.expire_days = 1e300", "must be <= 36500"),
        ("upload.quota_bytes = 1" + "0" * 20, "must be <= 1000000000000000"),
        ("history.days = 1e300", "must be <= 36500"),
        ("log.level = 'loud'", "must be one of debug, info, warning, error"),
        ("log.level = ['debug']", "must be one of debug, info, warning, error"),
        ("data = ''", "must be a path"),
        ("server.trusted_proxies = ['10.0.0.0/33']", "is not an IP address or network"),
        ("auth.web_origins = ['https://*.app.example']", "patterns are not understood: write every site out"),
        ("auth.web_origins = ['*']", "patterns are not understood"),
        ("auth.web_origins = ['https://[a-z].app.example']", "patterns are not understood"),
        ("auth.web_origins = ['https://(a|b).example']", "patterns are not understood"),
        ("auth.web_origins = ['https://app.example:443']", "browsers send this one as https://app.example"),
        ("auth.web_origins = ['http://[::0:1]:8000']", "browsers send this one as http://[::1]:8000"),
        ("auth.web_origins = ['https://app.example/']", "no path"),
        ("auth.origins = ['https://*.chat.example']", "must be an origin"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_name(folder: Path, toml: str, complaint: str) -> None:
    file = write(folder / "ironwire.toml", toml)
    with pytest.raises(ConfigError) as caught:
        load_settings(file)
    key = toml.partition(" ")[0]
    assert str(caught.value).startswith(f"{file}: {key} = ")
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "text", "complaint"),
    [
        ("IRONWIRE_SERVER_PORT", "yes", "server.port = 'yes' cannot be used: must be a whole number"),
        ("IRONWIRE_SERVER_PORT", "", "must be a whole number"),
        ("IRONWIRE_AUTH_REQUIRE_ORIGIN", "1", "must be true or false"),
        ("IRONWIRE_LIMITS_AUTH_SECONDS", "nan", "must be a number"),
        ("IRONWIRE_AUTH_ORIGINS", "", "must be an origin"),
    ],
)
def test_a_variable_that_does_not_fit_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str, complaint: str
) -> None:
    monkeypatch.setenv(variable, text)
    with pytest.raises(ConfigError, match=rf"^{variable}: .*{complaint}"):
        load_settings()


def test_sites_as_browsers_send_them_are_taken() -> None:
    sites = ("https://app.example", "http://localhost:5173", "http://[::1]:8000", "capacitor://localhost")
    assert AuthSettings(web_origins=sites).web_origins == sites


def test_an_option_that_does_not_fit_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"^command line: server\.port = 70000 cannot be used"):
        load_settings(overrides={"server.port": 70_000})


@pytest.mark.parametrize(
    ("toml", "complaint"),
    [
        ("limits.auth_second = 3", r"limits\.auth_second is not a setting; did you mean limits\.auth_seconds\?"),
        ("port = 3", r"port is not a setting"),
        ("server = 3", r"server is not a setting"),
        ("data.path = 'x'", r"data\.path is not a setting"),
    ],
)
def test_a_key_that_is_no_setting_is_refused(folder: Path, toml: str, complaint: str) -> None:
    write(folder / "ironwire.toml", toml)
    with pytest.raises(ConfigError, match=complaint):
        load_settings()


def test_a_variable_that_is_no_setting_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRONWIRE_SERVER_PORTS", "1")
    with pytest.raises(
        ConfigError, match=r"IRONWIRE_SERVER_PORTS is not a variable; did you mean IRONWIRE_SERVER_PORT\?"
    ):
        load_settings()


def test_variables_of_the_client_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRONWIRE_SERVER", "https://chat.example")
    monkeypatch.setenv("IRONWIRE_PASSPHRASE", "correct horse")
    assert load_settings().server == ServerSettings()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"server.port = ", "is not TOML: Invalid value"),
        (b"data = '\xff'", "is not TOML"),
    ],
)
def test_a_named_file_that_cannot_be_used_is_an_error(folder: Path, content: bytes | None, complaint: str) -> None:
    file = folder / "named.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=complaint):
        load_settings(file)


def test_certificate_and_key_belong_together(folder: Path) -> None:
    certificate = trustme.CA().issue_cert("chat.example")
    certfile = write(folder / "cert.pem", certificate.cert_chain_pems[0].bytes().decode())
    with pytest.raises(ConfigError, match="belong together"):
        load_settings(overrides={"server.certfile": certfile})
    with pytest.raises(ConfigError, match=r"server\.keyfile = .*there is no such file"):
        load_settings(overrides={"server.certfile": certfile, "server.keyfile": folder / "key.pem"})
    keyfile = write(folder / "key.pem", "")
    with pytest.raises(ConfigError, match=r"server\.certfile = .* and server\.keyfile = .* must be a certificate and"):
        load_settings(overrides={"server.certfile": certfile, "server.keyfile": keyfile})
    write(keyfile, certificate.private_key_pem.bytes().decode())
    settings = load_settings(overrides={"server.certfile": certfile, "server.keyfile": keyfile})
    assert (settings.server.certfile, settings.server.keyfile) == (certfile, keyfile)


def test_a_turn_server_and_its_secret_belong_together(folder: Path) -> None:
    write(folder / "ironwire.toml", "turn.urls = ['stun:turn.example', 'turn:turn.example']")
    with pytest.raises(ConfigError, match=r"turn\.urls names a TURN server: set turn\.secret"):
        load_settings()
    settings = load_settings(overrides={"turn.secret": "north"})
    assert settings.turn.urls == ("stun:turn.example", "turn:turn.example")
    assert "north" not in repr(settings)
    write(folder / "ironwire.toml", "turn = {urls = ['stun:turn.example'], secret = ['north']}")
    with pytest.raises(ConfigError, match=r"turn\.secret = .* must be a text") as caught:
        load_settings()
    assert "north" not in str(caught.value)


def test_a_server_without_configured_origins_answers_to_the_address_that_was_reached() -> None:
    assert Settings().served_origins("127.0.0.1", 8080) == {"http://localhost:8080", "http://127.0.0.1:8080"}
    assert Settings().served_origins("::1", 8080) == {"http://localhost:8080", "http://[::1]:8080"}
    assert Settings().served_origins("192.0.2.7", 80) == {"http://192.0.2.7"}
    with_tls = Settings(server=ServerSettings(certfile=Path("c"), keyfile=Path("k")))
    assert "https://localhost" in with_tls.served_origins("127.0.0.1", 443)


def test_a_server_with_configured_origins_answers_to_nothing_else() -> None:
    settings = Settings(auth=AuthSettings(origins=("wss://chat.example",)))
    assert settings.served_origins("127.0.0.1", 8080) == {"https://chat.example"}


def test_the_example_changes_nothing_and_shows_every_default(folder: Path) -> None:
    defaults = load_settings()
    write(folder / "ironwire.toml", example_toml())
    assert load_settings() == defaults
    with_values = re.sub(r'^# (?=\w+ = (?!""))', "", example_toml(), flags=re.MULTILINE)
    assert "\nport = 8080\n" in with_values
    write(folder / "ironwire.toml", with_values)
    assert load_settings() == defaults


def test_the_manual_names_every_setting_with_its_default() -> None:
    manual = Path(__file__).parents[2].joinpath("docs", "operations.md").read_text(encoding="utf-8")
    for section, name, default in _options_of_the_example():
        key = f"{section}.{name}" if section else name
        assert f"| `{key}` | `{default}` |" in manual


def _options_of_the_example() -> list[tuple[str, str, str]]:
    section = ""
    options = []
    for line in example_toml().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif match := re.fullmatch(r"# (\w+) = (.+)", line):
            options.append((section, match[1], match[2]))
    return options

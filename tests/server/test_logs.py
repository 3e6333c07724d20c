"""What reaches the operator: every event, in one form, and nothing that people wrote to each other."""

import io
import json
import logging
from typing import Any

import pytest
import structlog

from ironwire.server.operator.config import LogSettings
from ironwire.server.operator.logs import configure_logging

pytestmark = pytest.mark.usefixtures("restored_logging")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def logging_to(stream: io.StringIO, settings: LogSettings) -> io.StringIO:
    configure_logging(settings, stream)
    return stream


def events(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_holds_one_object_a_line_with_time_level_and_fields() -> None:
    output = logging_to(io.StringIO(), LogSettings(format="json"))
    structlog.get_logger().warning("session ended", client="0123abcd", code=4508)
    (event,) = events(output)
    assert event.pop("timestamp").endswith("Z")
    assert event == {"event": "session ended", "level": "warning", "client": "0123abcd", "code": 4508}


def test_the_standard_library_speaks_in_the_same_form() -> None:
    output = logging_to(io.StringIO(), LogSettings(format="json"))
    logging.getLogger("hypercorn.error").info("Running on %s", "http://127.0.0.1")
    (event,) = events(output)
    assert (event["event"], event["level"]) == ("Running on http://127.0.0.1", "info")


def test_fields_bound_to_a_task_go_with_its_events() -> None:
    output = logging_to(io.StringIO(), LogSettings(format="json"))
    with structlog.contextvars.bound_contextvars(client="0123abcd"):
        structlog.get_logger().info("session began")
    assert events(output)[0]["client"] == "0123abcd"


def test_less_important_events_are_left_out() -> None:
    output = logging_to(io.StringIO(), LogSettings(format="json", level="warning"))
    structlog.get_logger().info("one")
    logging.getLogger("hypercorn.error").info("two")
    structlog.get_logger().error("three")
    logging.getLogger("hypercorn.error").error("four")
    assert [event["event"] for event in events(output)] == ["three", "four"]


def test_auto_means_json_unless_a_terminal_reads() -> None:
    output = logging_to(io.StringIO(), LogSettings(format="auto"))
    structlog.get_logger().info("hello")
    assert events(output)[0]["event"] == "hello"


def test_auto_means_lines_in_colour_at_a_terminal() -> None:
    output = logging_to(Terminal(), LogSettings(format="auto"))
    structlog.get_logger().info("hello")
    assert not output.getvalue().startswith("{")
    assert "\x1b[" in output.getvalue()


@pytest.mark.parametrize("form", ["console", "json"])
def test_a_traceback_names_the_error_but_no_local_variable(form: Any) -> None:
    output = logging_to(io.StringIO(), LogSettings(format=form))
    body = "meet me " + "at noon"
    try:
        raise RuntimeError("disk gone")
    except RuntimeError:
        structlog.get_logger().exception("cannot store")
        logging.getLogger("quart").exception("cannot store")
    assert output.getvalue().count("RuntimeError: disk gone") == 2
    assert body not in output.getvalue()


def test_what_a_peer_chose_cannot_drive_the_terminal() -> None:
    output = logging_to(io.StringIO(), LogSettings(format="console"))
    structlog.get_logger().info("refused", path="/\x1b[2J\x9b0m\nforged line", status=400)
    logging.getLogger("hypercorn.access").info("GET /\x1b[2J\r\n")
    assert len(output.getvalue().splitlines()) == 2
    try:
        raise ValueError("not a number: \x1b[2J\r")
    except ValueError:
        structlog.get_logger().exception("cannot parse")
    assert not set("\x1b\x9b\r") & set(output.getvalue())
    assert r"\x1b[2J" in output.getvalue()

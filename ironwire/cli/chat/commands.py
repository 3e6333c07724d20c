"""The commands of `ironwire chat`, the same in the window and line by line, and those that the server carries out."""

import os
import shlex
from pathlib import Path
from typing import Literal

import trio
from attrs import frozen

from ironwire.cli.addressbook import AddressBook
from ironwire.cli.failures import refusal
from ironwire.cli.options import ANSWER_SECONDS
from ironwire.cli.render import members
from ironwire.client import Client, ClientError, Refused
from ironwire.ids import Address, ClientId, GroupId, is_group
from ironwire.wire.messages import FileKind

USAGE = (
    ("/to NAME", "open the conversation with NAME"),
    ("/file PATH", "upload a file and send it"),
    ("/image PATH", "a picture"),
    ("/voice PATH", "a voice message"),
    ("/circle PATH", "a square film"),
    ("/save [FILE]", "save that file, or the last one"),
    ("/who", "who is in this conversation"),
    ("/block", "get nothing more from this person"),
    ("/unblock", "get again what this person sends"),
    ("/reconnect", "try again at once"),
    ("/help", "this list"),
    ("/quit", "leave"),
    ("//text", "a text that begins with a slash"),
)
"""Every command and its help. `FILE` stands in the line of a file; a path to save it to may follow."""

COMMANDS = tuple(usage.partition(" ")[0] for usage, _ in USAGE if not usage.startswith("//"))
SENDING: dict[str, FileKind] = {"/file": "file", "/image": "image", "/voice": "voice", "/circle": "circle"}

Question = Literal["/who", "/block", "/unblock"]
"""A command that the server answers."""

Tone = Literal["muted", "good", "warning", "error"]


@frozen
class Remark:
    """Lines that the program has to add to a conversation."""

    text: str
    tone: Tone = "muted"


def is_command(line: str) -> bool:
    return line.startswith("/") and not line.startswith("//")


def as_text(line: str) -> str:
    """The text to send for a line that is no command."""
    return line[1:] if line.startswith("//") else line


def unknown(command: str) -> Remark:
    return Remark(f"there is no {command}; /help lists the commands, //… sends a slash", "warning")


def path_of(text: str) -> Path:
    """The path that a person types as `text`; unlike `Path.expanduser` this takes any text."""
    return Path(os.path.expanduser(text))


def words_of(argument: str) -> list[str]:
    """The words of a command, as a shell would split them; where quotes do not match, the whole is one word."""
    try:
        return shlex.split(argument)
    except ValueError:
        return [argument.strip()]


async def ask_server(client: Client, question: Question, peer: Address, book: AddressBook, status: str = "") -> Remark:
    """Carry out `question` in the conversation with `peer`, who is seen as `status`; return the outcome."""
    try:
        with trio.fail_after(ANSWER_SECONDS):
            return await _carried_out(client, question, peer, book, status)
    except Refused as refused:
        return Remark(refusal(refused), "error")
    except trio.TooSlowError:
        return Remark("the server does not answer", "error")
    except ClientError as error:
        return Remark(str(error), "error")


async def _carried_out(client: Client, question: Question, peer: Address, book: AddressBook, status: str) -> Remark:
    if is_group(peer):
        if question != "/who":
            return Remark("a group cannot be blocked; `ironwire group leave` leaves it", "warning")
        group, code = await client.groups.info(GroupId(peer)), await client.epoch_code(peer)
        return Remark("\n".join(members(group, book, client.client_id, code)))
    person, label = ClientId(peer), book.label(peer)
    match question:
        case "/block":
            await client.block(person)
            return Remark(f"nothing that {label} sends comes any more; /unblock ends it", "good")
        case "/unblock":
            await client.unblock(person)
            return Remark(f"you get again what {label} sends from now on", "good")
        case _:
            verified = "verified" if book.is_verified(peer) else "not verified"
            return Remark(f"{label} is {peer}, {verified}{f', {status}' if status else ''}")

"""Any bytes at all as an HTTP/1.1 connection to the whole server.

What it proves, for every input and besides what every house is inspected for (`fuzz/house.py`), is that the server

- answers with whole responses, of a status that the protocol knows, or hangs up;
- says with every response that its content is not to be sniffed;
- lets go of the connection, whether the client goes on, hangs up or falls silent.
"""

import re

from attrs import frozen

from fuzz.house import House, Peer, quiet, run

KNOWN_STATUSES = frozenset({100, 101, 200, 206, 304, 400, 401, 404, 405, 408, 409, 412, 413, 416, 426, 431, 501, 505})
_LEAVE_SECONDS = 60.0
_MOST_READS = 64
_FALLS_SILENT = 0x80
_BODILESS = frozenset({204, 304})

_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2}) ")
_LENGTH = re.compile(rb"\r\ncontent-length: ([0-9]+)\r\n", re.IGNORECASE)
_NOSNIFF = re.compile(rb"\r\nx-content-type-options: nosniff\r\n", re.IGNORECASE)


def one(data: bytes) -> None:
    """Check `data`: the first byte says how it is cut into reads and whether the client hangs up, the rest is sent.

    Raises:
        AssertionError: the server broke one of the laws above, or of the house.
    """
    run(data, lambda house: _send(house, data[:1], data[1:]))


async def _send(house: House, choices: bytes, data: bytes) -> None:
    choice = choices[0] if choices else 0
    peer = house.connect()
    house.newcomers.append(peer)
    read_bytes = max(choice % _FALLS_SILENT or len(data), len(data) // _MOST_READS, 1)
    for start in range(0, len(data), read_bytes):
        await peer.send(data[start : start + read_bytes])
        await quiet()
    if not choice & _FALLS_SILENT:
        await peer.hang_up()
    await _wait_for_end(house, peer)
    check_responses(bytes(peer.received))


async def _wait_for_end(house: House, peer: Peer) -> None:
    waited_seconds = 0.0
    await quiet()
    while not peer.has_ended:
        assert waited_seconds < _LEAVE_SECONDS, "the server holds on to a client that says nothing"
        await house.pass_time(1.0)
        waited_seconds += 1.0


@frozen
class Response:
    status: int
    head: bytes


def check_responses(received: bytes) -> list[Response]:
    """Every response in what a connection brought, up to the switch to another protocol.

    Raises:
        AssertionError: it is something else than whole responses, one after the other.
    """
    responses: list[Response] = []
    while received:
        head, end_of_head, received = received.partition(b"\r\n\r\n")
        status_line = _STATUS_LINE.match(head)
        assert status_line, f"this is no response: {head[:100]!r}"
        assert end_of_head, "the head of a response was cut short"
        head += b"\r\n"
        response = Response(int(status_line[1]), head)
        responses.append(response)
        assert response.status in KNOWN_STATUSES, f"the protocol knows no status {response.status}"
        if response.status == 101:
            break
        if response.status == 100:
            continue
        assert _NOSNIFF.search(head), f"a response {response.status} may be sniffed"
        length = _LENGTH.search(head)
        assert length or response.status in _BODILESS, "a response does not say how long it is"
        # A response to HEAD has a length and no body; no body of this server begins like a response.
        if length and response.status not in _BODILESS and received and not _STATUS_LINE.match(received):
            assert len(received) >= int(length[1]), "a response was cut short"
            received = received[int(length[1]) :]
    return responses

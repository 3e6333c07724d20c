"""`GET /client.json`, and that it says the same as `auth_ok`."""

import json

from jsonschema import Draft202012Validator
from trio.testing import MockClock

from ironwire import __version__
from ironwire.limits import Limits
from ironwire.server.operator.config import AuthSettings, UploadSettings
from tests.playbook import Stage, open_stage
from tests.server.http_toy import RawResponse, parse_response
from tests.server.test_openapi import DOCUMENT


async def client_json(stage: Stage) -> RawResponse:
    request = b"GET /client.json HTTP/1.1\r\nHost: localhost\r\nOrigin: https://anybody.example\r\n\r\n"
    return parse_response(await stage.server.request(request))


async def test_it_says_what_auth_ok_says_to_everybody(mock_clock: MockClock) -> None:
    auth = AuthSettings(origins=("https://chat.example", "http://localhost"), registration="invite")
    limits = Limits(window_envelopes=7, retention_days=0.5)
    async with open_stage(auth=auth, limits=limits, upload=UploadSettings(auth="token"), history_days=1) as stage:
        answer = await client_json(stage)
    assert answer.status == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["access-control-allow-origin"] == "*"
    told = answer.json
    Draft202012Validator(
        DOCUMENT["components"]["schemas"]["ClientJson"] | {"components": DOCUMENT["components"]}
    ).validate(told)
    assert {key: told[key] for key in told if key != "limits"} == {
        "protocol": 1,
        "version": __version__,
        "origins": ["http://localhost", "https://chat.example"],
        "registration": "invite",
        "upload_token": True,
        "features": ["history", "upload_token", "mls"],
    }
    assert (told["limits"]["window_envelopes"], told["limits"]["retention_ms"]) == (7, 43_200_000)


async def test_its_limits_are_those_of_auth_ok(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        told = (await client_json(stage)).json
        await stage.connect("alice")
        await stage.play("""
            alice >> {"type":"auth","id":"a","payload":{"token":"$alice","device":"phone"}}
            alice << {"type":"auth_challenge","id":"a","challenge":"$nonce"}
            alice >> {"type":"verify","id":"v","payload":{"attempt":"$alice_signs"}}
        """)
        welcome = json.loads(await stage.next_text("alice"))
    assert welcome["id"] == "v"
    assert welcome["payload"]["limits"] == told["limits"]
    assert welcome["payload"]["protocol"] == told["protocol"]
    assert told["origins"] == ["http://127.0.0.1", "http://localhost"]

"""What a file tells of itself, against files made here: of known length, size and loudness."""

import math
import socket
from array import array
from fractions import Fraction
from pathlib import Path

import av
import pytest
from av.audio.stream import AudioStream
from av.stream import Disposition
from av.video.stream import VideoStream
from hypothesis import given
from hypothesis import strategies as st

from ironwire.client import FileMetadata, MediaError
from ironwire.client.media import LONGEST_CIRCLE_SECONDS, WAVEFORM_SLICES, MediaKind, measure, waveform

HERTZ = 48_000
FRAME_SAMPLES = 960
LOUDEST = 32_767


def make_sound(path: Path, codec: str = "pcm_s16le", seconds: float = 2, loudness: float | None = None) -> Path:
    """A tone, as loud as `loudness`, or growing from silence to full loudness."""
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=HERTZ, layout="mono")
        assert isinstance(stream, AudioStream)
        container.start_encoding()
        count = round(seconds * HERTZ)
        for start in range(0, count, FRAME_SAMPLES):
            scale = LOUDEST * (start / count if loudness is None else loudness)
            samples = array("h", (round(scale * math.sin(2 * math.pi * index / 96)) for index in range(FRAME_SAMPLES)))
            frame = av.AudioFrame(format="s16", layout="mono", samples=FRAME_SAMPLES)
            frame.sample_rate, frame.pts, frame.time_base = HERTZ, start, Fraction(1, HERTZ)
            frame.planes[0].update(samples.tobytes())
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def make_film(path: Path, width: int, height: int, seconds: float = 2, codec: str = "mpeg4", rate: int = 10) -> Path:
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=rate)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(round(seconds * rate)):
            frame = av.VideoFrame(width, height, "yuv420p")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def make_picture(path: Path, width: int, height: int) -> Path:
    codec, pixels = ("png", "rgb24") if path.suffix == ".png" else ("mjpeg", "yuvj420p")
    with av.open(path, "w", format="image2", options={"update": "1"}) as container:
        stream = container.add_stream(codec, rate=1)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        container.mux(stream.encode(av.VideoFrame(width, height, pixels)))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("name", "codec"), [("a.wav", "pcm_s16le"), ("a.ogg", "libopus"), ("a.m4a", "aac")])
def test_a_voice_message_has_a_length_and_a_shape(tmp_path: Path, name: str, codec: str) -> None:
    said = measure(make_sound(tmp_path / name, codec), "voice")
    assert said.keys() == {"kind", "duration_ms", "waveform"}
    assert said["kind"] == "voice"
    assert said["duration_ms"] == pytest.approx(2_000, abs=60)
    assert len(said["waveform"]) == WAVEFORM_SLICES
    for index, peak in enumerate(said["waveform"]):
        assert peak == pytest.approx(255 * index / WAVEFORM_SLICES, abs=20)


@pytest.mark.parametrize("loudness", [0.0, 0.25, 1.0])
def test_the_waveform_is_as_loud_as_the_sound(tmp_path: Path, loudness: float) -> None:
    shape = measure(make_sound(tmp_path / "a.wav", loudness=loudness), "voice")["waveform"]
    assert shape[1:-1] == pytest.approx([255 * loudness] * (WAVEFORM_SLICES - 2), abs=3)


def test_the_shortest_word_has_a_waveform_too(tmp_path: Path) -> None:
    said = measure(make_sound(tmp_path / "a.wav", seconds=0.02, loudness=0.5), "voice")
    assert said["duration_ms"] == pytest.approx(20, abs=1)
    assert len(said["waveform"]) == WAVEFORM_SLICES


@given(st.lists(st.integers(0, LOUDEST + 1), min_size=1, max_size=500))
def test_a_waveform_misses_no_peak_and_invents_none(peaks: list[int]) -> None:
    shape = waveform(peaks)
    scaled = [min(255, peak * 255 // LOUDEST) for peak in peaks]
    assert len(shape) == WAVEFORM_SLICES
    assert set(shape) <= set(scaled)
    assert max(shape) == max(scaled)
    assert waveform(sorted(peaks)) == sorted(waveform(sorted(peaks)))


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "mpeg4"), ("a.webm", "libvpx")])
def test_a_circle_has_a_length_and_a_size(tmp_path: Path, name: str, codec: str) -> None:
    """The second as browsers record it: its stream says nothing of its length."""
    circle = FileMetadata(kind="circle", duration_ms=2_000, width=240, height=232)
    assert measure(make_film(tmp_path / name, 240, 232, codec=codec), "circle") == circle


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_a_picture_has_a_size(tmp_path: Path, name: str) -> None:
    assert measure(make_picture(tmp_path / name, 30, 20), "image") == FileMetadata(kind="image", width=30, height=20)


def test_a_camera_that_is_held_upright(tmp_path: Path) -> None:
    path = make_picture(tmp_path / "a.jpg", 32, 16)
    turned = b"\xff\xe1\x00\x22Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    path.write_bytes(path.read_bytes().replace(b"\xff\xd8", b"\xff\xd8" + turned, 1))
    assert measure(path, "image") == FileMetadata(kind="image", width=16, height=32)


@pytest.mark.parametrize(
    ("name", "kind", "reason"),
    [
        ("sound.wav", "circle", "sound.wav has no moving picture"),
        ("sound.wav", "image", "sound.wav is not a picture"),
        ("film.mp4", "voice", "film.mp4 has a picture"),
        ("film.mp4", "image", "film.mp4 is not a picture"),
        ("wide.mp4", "circle", "wide.mp4 is 320 x 240"),
        ("picture.png", "circle", "picture.png has no moving picture"),
        ("picture.png", "voice", "picture.png has a picture"),
        ("silent.wav", "voice", "silent.wav has no sound"),
        ("text.txt", "voice", "text.txt is neither sound nor picture"),
        ("text.txt", "circle", "text.txt is neither sound nor picture"),
        ("text.txt", "image", "text.txt is neither sound nor picture"),
        ("empty", "image", "empty is neither sound nor picture"),
        ("nothing", "voice", "cannot read .*nothing: No such file"),
        ("", "image", "cannot read .*: Is a directory"),
    ],
)
def test_what_is_of_another_kind_is_refused(tmp_path: Path, name: str, kind: MediaKind, reason: str) -> None:
    make_sound(tmp_path / "sound.wav", seconds=0.1)
    make_sound(tmp_path / "silent.wav", seconds=0)
    make_film(tmp_path / "film.mp4", 240, 240, seconds=0.2)
    make_film(tmp_path / "wide.mp4", 320, 240, seconds=0.2)
    make_picture(tmp_path / "picture.png", 20, 20)
    (tmp_path / "text.txt").write_text("Once upon a time\n" * 100)
    (tmp_path / "empty").touch()
    with pytest.raises(MediaError, match=reason):
        measure(tmp_path / name, kind)


def test_a_circle_lasts_no_longer_than_people_look(tmp_path: Path) -> None:
    path = make_film(tmp_path / "long.mp4", 16, 16, seconds=LONGEST_CIRCLE_SECONDS + 1, rate=1)
    with pytest.raises(MediaError, match="lasts 61 s, and a circle 60 s at most"):
        measure(path, "circle")


def test_the_cover_of_a_song_is_no_picture_of_it(tmp_path: Path) -> None:
    sound = make_sound(tmp_path / "sound.wav", seconds=0.5)
    cover = make_picture(tmp_path / "cover.png", 16, 16)
    with av.open(tmp_path / "song.flac", "w") as song, av.open(sound) as audio, av.open(cover) as picture:
        stream = song.add_stream("flac", rate=HERTZ, layout="mono")
        attached = song.add_stream_from_template(picture.streams.video[0])
        attached.disposition = Disposition.attached_pic
        for packet in picture.demux():
            if packet.dts is not None:
                packet.stream = attached
                song.mux(packet)
        for frame in audio.decode(audio=0):
            song.mux(stream.encode(frame))
        song.mux(stream.encode(None))
    assert measure(tmp_path / "song.flac", "voice")["duration_ms"] == pytest.approx(500, abs=30)


def test_a_playlist_leads_nowhere(tmp_path: Path) -> None:
    film = make_film(tmp_path / "film.ts", 16, 16, codec="mpeg2video", rate=25)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        for target in (f"http://127.0.0.1:{server.getsockname()[1]}/film.ts", str(film)):
            path = tmp_path / "list.m3u8"
            path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{target}\n#EXT-X-ENDLIST\n")
            with pytest.raises(MediaError, match="neither sound nor picture"):
                measure(path, "circle")
        with pytest.raises(TimeoutError):
            server.accept()

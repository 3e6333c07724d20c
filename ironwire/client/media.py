"""Metadata of voice messages, circles and pictures, so that others can show one before they have fetched it.

Read with PyAV, which comes with the extra `ironwire[media]`: without it this module cannot be imported. Rule: the file
alone is read. A playlist, which could send the reader to other files or to the network, is refused.
"""

from collections.abc import Iterator
from fractions import Fraction
from itertools import chain, pairwise
from pathlib import Path
from typing import Literal, assert_never

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ironwire.client.errors import MediaError
from ironwire.client.transfer import FileDescription

MediaKind = Literal["voice", "circle", "image"]

WAVEFORM_SLICES = 64
LONGEST_SECONDS = 24 * 3600
"""The most that `duration_ms` can say (docs/protocol.md, section 4)."""

LONGEST_CIRCLE_SECONDS = 60
_SQUARE_TOLERANCE = 0.1
"""How much shorter than the other one side of a circle may be: what is cut off then, nobody misses."""

_HERTZ = 16_000
_CHUNK_SAMPLES = 320
"""20 ms: short enough that 64 of them are no long message."""

_LOUDEST = 32_767

_PICTURES = frozenset({"apng", "bmp_pipe", "gif", "jpeg_pipe", "png_pipe", "tiff_pipe", "webp_pipe"})
_SOUNDS_AND_FILMS = frozenset(
    {"aac", "aiff", "amr", "avi", "caf", "flac", "matroska", "mov", "mp3", "mpeg", "mpegts", "ogg", "wav", "webm"}
)
_OPTIONS = {"format_whitelist": ",".join(sorted(_PICTURES | _SOUNDS_AND_FILMS)), "protocol_whitelist": "none"}
"""Nothing else is tried: FFmpeg would fetch what a playlist names, and draw a text as a film."""


def measure(path: Path, kind: MediaKind) -> FileDescription:
    """The metadata of the file at `path`, which is to be sent as `kind`: pixels as they are to be
    shown, and for each of 64 slices of the sound its peak, 0 to 255. Blocks: async callers use a thread.

    Raises:
        MediaError: it cannot be read, or it is not of that kind.
    """
    try:
        with path.open("rb") as file, av.open(file, "r", options=_OPTIONS) as container:
            match kind:
                case "voice":
                    return _voice(container)
                case "circle":
                    return _circle(container)
                case "image":
                    return _image(container)
                case _:
                    assert_never(kind)
    except MediaError as error:
        raise MediaError(f"{path.name} {error}") from None
    except av.FFmpegError as error:
        raise MediaError(f"{path.name} is neither sound nor picture in a format that is known here") from error
    except OSError as error:
        raise MediaError(f"cannot read {path}: {error.strerror}") from error


def _voice(container: InputContainer) -> FileDescription:
    if _video(container) is not None:
        raise MediaError("has a picture: it can be a circle or a file, and no voice message")
    peaks: list[int] = []
    samples = 0
    for count, peak in _chunks(container) if container.streams.audio else ():
        samples += count
        peaks.append(peak)
    if not peaks:
        raise MediaError("has no sound: it cannot be a voice message")
    return FileDescription(kind="voice", duration_ms=_duration_ms(Fraction(samples, _HERTZ)), waveform=waveform(peaks))


def _circle(container: InputContainer) -> FileDescription:
    video = None if container.format.name in _PICTURES else _video(container)
    first = None if video is None else next(container.decode(video), None)
    if first is None:
        raise MediaError("has no moving picture: it cannot be a circle")
    width, height = _size(first)
    if abs(width - height) > _SQUARE_TOLERANCE * max(width, height):
        raise MediaError(f"is {width} x {height}, and a circle is cut from a square: crop it, or send it as a file")
    seconds = _seconds(container)
    if seconds > LONGEST_CIRCLE_SECONDS:
        most = f"{LONGEST_CIRCLE_SECONDS} s at most"
        raise MediaError(f"lasts {float(seconds):.0f} s, and a circle {most}: cut it, or send it as a file")
    return FileDescription(kind="circle", duration_ms=_duration_ms(seconds), width=width, height=height)


def _image(container: InputContainer) -> FileDescription:
    video = _video(container) if container.format.name in _PICTURES else None
    first = None if video is None else next(container.decode(video), None)
    if first is None:
        raise MediaError("is not a picture: send it as a file")
    width, height = _size(first)
    return FileDescription(kind="image", width=width, height=height)


def _video(container: InputContainer) -> VideoStream | None:
    """The moving or still picture; the cover of a song is none."""
    streams = container.streams.video
    return next((stream for stream in streams if not stream.disposition & Disposition.attached_pic), None)


def _size(frame: VideoFrame) -> tuple[int, int]:
    """Width and height as it is to be shown: a telephone that is held upright says so, and turns nothing."""
    return (frame.height, frame.width) if frame.rotation % 180 else (frame.width, frame.height)


def _seconds(container: InputContainer) -> Fraction:
    """By the packets: what browsers record says nothing of its length."""
    container.seek(0)
    end = Fraction(0)
    for packet in container.demux():
        if packet.pts is not None and packet.time_base is not None:
            end = max(end, (packet.pts + (packet.duration or 0)) * packet.time_base)
    return end


def _chunks(container: InputContainer) -> Iterator[tuple[int, int]]:
    """The sound in chunks: how many samples each has, and how loud the loudest is."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=_HERTZ, frame_size=_CHUNK_SAMPLES)
    # None: there is no more, let out what is left.
    for decoded in chain(container.decode(container.streams.audio[0]), (None,)):
        for chunk in resampler.resample(decoded):
            samples = memoryview(chunk.planes[0]).cast("h")[: chunk.samples]
            yield chunk.samples, max(map(abs, samples))


def waveform(peaks: list[int]) -> list[int]:
    """64 slices of equal length, each as loud as its loudest chunk. Peaks are those of 16-bit samples; at least one."""
    count = len(peaks)
    bounds = [index * count // WAVEFORM_SLICES for index in range(WAVEFORM_SLICES + 1)]
    loudest = [max(peaks[first : max(last, first + 1)]) for first, last in pairwise(bounds)]
    return [min(255, peak * 255 // _LOUDEST) for peak in loudest]


def _duration_ms(seconds: Fraction) -> int:
    if seconds > LONGEST_SECONDS:
        raise MediaError("lasts more than a day: send it as a file")
    return round(seconds * 1000)

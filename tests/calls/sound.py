"""What is heard in a recording."""

import array
import math
import wave
from pathlib import Path

STEP_HZ = 10


def write_tone(path: Path, hertz: float, seconds: float, rate: int = 16_000) -> None:
    samples = (round(16_000 * math.sin(2 * math.pi * hertz * index / rate)) for index in range(int(rate * seconds)))
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(array.array("h", samples).tobytes())


def loudest_hertz(path: Path) -> int:
    """The strongest frequency of the recording's last second, to the nearest `STEP_HZ`."""
    with wave.open(str(path), "rb") as file:
        rate, channels = file.getframerate(), file.getnchannels()
        samples = array.array("h", file.readframes(file.getnframes()))[::channels][-rate:]
    thin = max(rate // 8_000, 1)
    samples, rate = samples[::thin], rate // thin
    if max(map(abs, samples), default=0) < 1_000:
        raise AssertionError(f"{path} is silent")
    return max(range(100, 2_000, STEP_HZ), key=lambda hertz: _power(samples, hertz, rate))


def _power(samples: "array.array[int]", hertz: float, rate: int) -> float:
    """Goertzel's algorithm."""
    factor = 2 * math.cos(2 * math.pi * hertz / rate)
    last = before = 0.0
    for sample in samples:
        last, before = sample + factor * last - before, last
    return last * last + before * before - factor * last * before

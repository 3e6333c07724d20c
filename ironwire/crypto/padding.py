"""Sizes that tell little: whatever is encrypted is padded to one of few (docs/between-devices.md, section 10)."""

_STEP_BYTES = 256
_MOST_BY_STEP = 4096


def padded_size(size: int) -> int:
    """The smallest of these sizes that holds `size` bytes: multiples of 256 bytes up to 4 KiB, then 1, 1.25, 1.5 and
    1.75 times each power of two. Nothing is padded to nothing: 0 bytes take the first size.
    """
    size = max(size, 1)
    step = _STEP_BYTES if size <= _MOST_BY_STEP else 1 << (size - 1).bit_length() - 3
    return -(-size // step) * step

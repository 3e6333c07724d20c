"""What the operating system says about this process.

The collector that comes with prometheus-client needs /proc/stat, which a hardened unit (`ProcSubset=pid`) does not
show, and then says nothing at all. What is read here is the process's own.
"""

import os
import resource
import time
from pathlib import Path

from attrs import frozen

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_OWN = Path("/proc/self")
_STARTED = time.time()


@frozen
class ProcessStatistics:
    start_time_seconds: float
    """When the process began, in Unix seconds: an increase is a restart."""
    cpu_seconds_total: float
    """What it has used of the processors, in user and in kernel mode."""
    resident_bytes: int
    """Memory that it holds; the most it ever held where there is no /proc."""
    open_files: int
    """File descriptors in use, one for each connection; 0 where there is no /proc."""
    open_files_most: int
    """File descriptors that it may use at most."""


def process_statistics() -> ProcessStatistics:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return ProcessStatistics(
        start_time_seconds=_STARTED,
        cpu_seconds_total=usage.ru_utime + usage.ru_stime,
        resident_bytes=_resident_bytes(at_most=usage.ru_maxrss * 1024),
        open_files=_open_files(),
        open_files_most=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    )


def _resident_bytes(at_most: int) -> int:
    try:
        return int((_OWN / "statm").read_text().split()[1]) * _PAGE_BYTES
    except OSError:
        return at_most


def _open_files() -> int:
    try:
        return len(os.listdir(_OWN / "fd")) - 1  # one is the listing's own
    except OSError:
        return 0

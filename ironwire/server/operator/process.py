"""Figures of this process from the operating system.

The collector of prometheus-client needs /proc/stat, which a hardened unit (`ProcSubset=pid`) hides, and then reports
nothing at all. This module reads only the process's own files.
"""

import os
import resource
import time
from pathlib import Path

from attrs import frozen

from ironwire.counting import figure

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_OWN = Path("/proc/self")
_STARTED = time.time()


@frozen
class ProcessStatistics:
    start_time_seconds: float = figure("Start of the process in Unix seconds: an increase is a restart.")
    cpu_seconds_total: float = figure("Processor time of the process, in user and in kernel mode.")
    resident_bytes: int = figure("Resident memory; its peak where there is no /proc.")
    open_files: int = figure("Open file descriptors, one per connection; 0 where there is no /proc.")
    open_files_most: int = figure("The limit of open file descriptors.")


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
        return len(os.listdir(_OWN / "fd")) - 1  # without the descriptor of the listing
    except OSError:
        return 0

"""Puts the manual pages into the wheel. They are made anew for each: no copy of them can be out of date."""

import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ManualPages(BuildHookInterface[Any]):
    """Makes the pages in a folder that is there as long as the build."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        sys.path.insert(0, self.root)
        from ironwire.cli.help.manual import write_pages  # noqa: PLC0415 - it can be imported only from here on

        self._folder = tempfile.TemporaryDirectory()
        write_pages(Path(self._folder.name))
        build_data["shared_data"][self._folder.name] = "share/man"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        self._folder.cleanup()

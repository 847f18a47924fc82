"""A sidecar in its own process, which the test kills.

Run as `python -m tests.support.destinations.child FOLDER`.

Its reports settings are JSON in REPORTS. It writes its port to FOLDER/port and serves for ever.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from tests.support.sidecar import running


async def main(folder: Path) -> None:
    """Serve until killed."""
    async with running(folder, reports=json.loads(os.environ["REPORTS"])) as sidecar:
        unfinished = folder / "port.part"
        unfinished.write_text(str(sidecar.port), encoding="utf-8")
        unfinished.replace(folder / "port")
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))

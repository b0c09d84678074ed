"""Where state lives: `$DLSVC_HOME`, or `~/.dlsvc`, or the spec's `storage`."""

from __future__ import annotations

import os
from pathlib import Path


def home(storage: str | None = None) -> Path:
    return Path(storage or os.environ.get("DLSVC_HOME") or "~/.dlsvc").expanduser().absolute()

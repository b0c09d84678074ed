"""What must stand in the environment before Ray is imported: it reads its authentication mode at import, once."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

# Read by Ray Train's controller: how often workers are polled, and how long a lost node is waited for.
_DEFAULTS = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.3",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "20",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def prepare(home: Path) -> None:
    """Set what the user hasn't: polling that suits short runs, and token authentication with a token of this home."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    if "RAY_AUTH_MODE" in os.environ:
        return
    os.environ["RAY_AUTH_MODE"] = "token"
    if (
        not {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys()
        and not Path("~/.ray/auth_token").expanduser().exists()
    ):
        os.environ["RAY_AUTH_TOKEN_PATH"] = str(_token(home))


def _token(home: Path) -> Path:
    path = home / "ray-token"
    if not path.exists():
        home.mkdir(parents=True, exist_ok=True)
        draft = home / f".ray-token.{secrets.token_hex(8)}"
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_hex(32))
        # Of processes that come here at once, the first's token is everybody's, and nobody reads half of one.
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    return path

"""A model folder and figures in, one more line of its test_log.jsonl out: each look at a test split leaves a trace."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

TEST_LOG = "test_log.jsonl"


def append_look(folder: Path, figures: Mapping[str, float]) -> None:
    """Append the date (UTC), the commit of the checkout and the figures, rounded to 4 places."""
    command = ["git", "rev-parse", "--short=12", "HEAD"]
    commit = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603 - fixed words
    look = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip() or None,
        "figures": {name: round(value, 4) for name, value in figures.items()},
    }
    with (folder / TEST_LOG).open("a", encoding="utf-8") as log:
        log.write(json.dumps(look) + "\n")

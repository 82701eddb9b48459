"""The log of a model folder, test_log.jsonl: one line for each evaluation on a test split."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

TEST_LOG = "test_log.jsonl"


def append_figures(folder: Path, figures: Mapping[str, float]) -> None:
    """Append a line with the date (UTC), the commit of the checkout, and the figures rounded to 4 places."""
    command = ["git", "rev-parse", "--short=12", "HEAD"]
    commit = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603 - fixed words
    entry = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip() or None,
        "figures": {name: round(value, 4) for name, value in figures.items()},
    }
    with (folder / TEST_LOG).open("a", encoding="utf-8") as log:
        log.write(json.dumps(entry) + "\n")

"""What every `evaluate.py` prints and stores: nothing without `--write`, else figures, card, picture and test log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models import evaluation, figures
from models.figures import Figure

F1 = Figure(name="f1", what="F1", value=0.7, tolerance=0.01)
DEV = Figure(name="f1_dev", what="F1, dev", value=0.8, tolerance=0.01, choice=True)
MS = Figure(name="ms", what="ms", value=2.0, tolerance=2.0)
RETRAINED = Figure(name="retrained_right", what="share right", value=0.9, tolerance=0.1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "card.md").write_text("# a model\n<!-- figures -->\n<!-- /figures -->\n", encoding="utf-8")
    return tmp_path


def draw(folder: Path) -> None:
    (folder / "figures.svg").touch()


def test_without_write_the_table_is_printed_and_nothing_stored(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluation.report(folder, [F1, DEV], draw, write=False)
    assert capsys.readouterr().out == figures.table([F1, DEV]) + "\n"
    assert [path.name for path in folder.iterdir()] == ["card.md"]


@pytest.mark.parametrize(
    ("log", "logged"), [("test", {"f1": 0.7}), ("all", {"f1": 0.7, "f1_dev": 0.8}), ("none", None)]
)
def test_with_write_figures_card_and_picture_are_stored_and_the_log_gets_a_line(
    folder: Path, log: str, logged: dict[str, float] | None
) -> None:
    evaluation.report(folder, [F1, DEV], draw, write=True, log=log)  # type: ignore[arg-type]  # a parameter of pytest
    assert figures.read(folder) == [F1, DEV]
    assert figures.table_in_card(folder) == figures.table([F1, DEV])
    assert (folder / "figures.svg").exists()
    path = folder / "test_log.jsonl"
    assert (json.loads(path.read_text(encoding="utf-8"))["figures"] if path.exists() else None) == logged


def test_times_and_retraining_that_were_not_measured_again_are_retained_on_request_only(folder: Path) -> None:
    figures.write(folder, [MS, F1, RETRAINED])
    assert evaluation.not_measured(folder, [F1]) == [MS, RETRAINED]
    evaluation.report(folder, [F1, RETRAINED], draw, write=True, retain=True)
    assert figures.read(folder) == [F1, RETRAINED, MS]
    evaluation.report(folder, [F1], draw, write=True)
    assert figures.read(folder) == [F1]


def test_the_command_line_takes_data_and_asks_for_retraining_where_a_model_has_it(tmp_path: Path) -> None:
    given = evaluation.parser("a_model", "What it does.", "the data", retrain=True).parse_args(
        ["--data", str(tmp_path), "--retrain", "work"]
    )
    assert (given.data, given.write, given.retrain) == (tmp_path, False, Path("work"))
    with pytest.raises(SystemExit):
        evaluation.parser("a_model", None, "the data").parse_args(["--data", "x", "--retrain", "work"])

"""Every card of a model that states figures shows them as its file has them, with their licence and their picture."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from kernels.engines import MODELS
from models import figures, speed
from models.figures import Figure
from streamer.errors import ModelError

STATING = sorted(path.parent for path in MODELS.glob(f"*/{figures.FIGURES}"))
SMALL, SCORED_AGAIN, TRAINED_AGAIN = 0.05, 0.02, 0.15


@pytest.fixture(params=STATING, ids=lambda folder: folder.name)
def model(request: pytest.FixtureRequest) -> Path:
    folder = request.param
    assert isinstance(folder, Path)
    return folder


def test_some_models_state_figures() -> None:
    assert STATING


def test_a_card_shows_the_table_of_its_figures(model: Path) -> None:
    assert figures.table_in_card(model) == figures.table(figures.read(model)), "figures.fill_card writes it"


def test_a_model_folder_has_its_licence_its_notice_and_a_picture_that_the_card_shows(model: Path) -> None:
    assert {"LICENSE", "NOTICE", "card.md"} <= {path.name for path in model.iterdir()}
    images = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", (model / "card.md").read_text(encoding="utf-8"))
    assert images, "a card shows its figures.svg"
    for name in images:
        assert (model / name).read_bytes().lstrip().startswith((b"<?xml", b"<svg")), name


def test_no_two_figures_of_a_model_have_one_name(model: Path) -> None:
    names = [figure.name for figure in figures.read(model)]
    assert len(names) == len(set(names))


def test_a_tolerance_is_too_small_to_hide_a_change_that_matters(model: Path) -> None:
    """Another CPU moves a score by little, a training run again by more; times double on a busy machine."""
    for figure in figures.read(model):
        assert figure.tolerance > 0, figure.name
        least = TRAINED_AGAIN if figure.name.startswith("retrained_") else SCORED_AGAIN
        most = 1.01 * figure.value if speed.is_time(figure.name) else max(least, SMALL * abs(figure.value))
        assert figure.tolerance <= most, f"{figure.name}: {figure.tolerance} on {figure.value}"


def test_a_reason_for_missing_a_bound_is_given_if_and_only_if_it_is_missed(model: Path) -> None:
    for figure in figures.read(model):
        if figure.verdict == "missed":
            assert figure.missed, f"{figure.name} misses its must; say why it is shipped all the same"
        assert not figure.missed or "missed" in figure.verdict, f"{figure.name} is reached: no excuse is needed"


def test_what_is_stated_is_read_as_it_was_written(tmp_path: Path) -> None:
    stated = Figure(name="uar", what="UAR", value=0.86541, tolerance=0.01, n=339, interval=(0.81119, 0.9), must=0.8)
    figures.write(tmp_path, [stated])
    (read,) = figures.read(tmp_path)
    assert read == msgspec.structs.replace(stated, value=0.8654, interval=(0.8112, 0.9))


def test_a_table_has_a_row_for_each_figure_and_no_empty_columns() -> None:
    table = figures.table(
        [
            Figure(
                name="uar", what="UAR", value=0.865, tolerance=0.01, n=1339, interval=(0.81, 0.9), must=0.8, aim=0.9
            ),
            Figure(name="ms", what="ms", value=12.5, tolerance=9, must=8, lower_is_better=True, missed="it is old"),
            Figure(name="dev", what="UAR, dev", value=0.9996, tolerance=0.01, choice=True, floor=".8"),
        ]
    )
    assert table.splitlines() == [
        "| figure | value | must / aim | floor |",
        "|---|---|---|---|",
        "| UAR (n = 1,339) | **.865** [.810, .900] | .80 / .90: must reached |  |",
        "| ms | **12.5** | ≤ 8 / -: missed |  |",
        "| UAR, dev (development) | **1.000** |  | .8 |",
        "",
        "Missed, and why it is shipped all the same:",
        "",
        "- ms: it is old",
    ]


def test_a_bound_is_compared_with_the_value_as_rounded_in_the_card() -> None:
    figure = Figure(name="f1", what="F1", value=0.5996, tolerance=0.01, must=0.6, aim=0.62)
    assert figure.verdict == "must reached"
    assert msgspec.structs.replace(figure, value=0.5994).verdict == "missed"
    assert msgspec.structs.replace(figure, must=None).verdict == "aim missed"
    assert msgspec.structs.replace(figure, aim=0.6).verdict == "aim reached"


def test_a_card_is_filled_between_its_marks_and_refused_without_them(tmp_path: Path) -> None:
    figures.write(tmp_path, [Figure(name="uar", what="UAR", value=0.8, tolerance=0.01)])
    card = tmp_path / "card.md"
    card.write_text("# a\n\n<!-- figures -->\nold\n<!-- /figures -->\n\n## b\n")
    figures.fill_card(tmp_path)
    figures.fill_card(tmp_path)
    assert card.read_text() == (
        "# a\n\n<!-- figures -->\n\n| figure | value |\n|---|---|\n| UAR | **.800** |\n\n<!-- /figures -->\n\n## b\n"
    )
    card.write_text("# a\n<!-- figures -->\n")
    with pytest.raises(ModelError, match="add the lines <!-- figures -->"):
        figures.fill_card(tmp_path)

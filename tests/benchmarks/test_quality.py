"""The benchmark of the model cards on small real model folders: what passes, and every reason to fail that it names."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from benchmarks.quality import __main__ as quality
from benchmarks.quality import report as quality_report
from models import figures
from models.figures import Figure

RIGHT = Figure(name="uar", what="UAR of three items", value=0.6667, tolerance=0.001, n=3, must=0.6, aim=0.7)
MS = Figure(name="ms", what="one item", value=2.0, tolerance=2.0, must=3.0, lower_is_better=True)
EVALUATE = '''
"""Three answers in, the share of right ones out."""
from models.figures import Figure

def figures(data):
    right = [line == "right" for line in (data / "answers.txt").read_text().split()]
    print("what a recipe prints is no part of the report")
    value = sum(right) / len(right)
    return [Figure(name="uar", what="UAR of three items", value=value, tolerance=.001, must=.6, aim=.7)]
'''
SPEED = """
def speed():
    return [Figure(name="ms", what="one item", value=2.0, tolerance=2, must=3, lower_is_better=True)]
"""
RETRAIN = """
def retrain_one(data, work):
    import library_for_training_only
"""

Run = Callable[..., tuple[int, str]]
Add = Callable[..., Path]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    name = f"models_of_{tmp_path.name}".replace("-", "_")
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").touch()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "answers.txt").write_text("right right wrong")
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    for loaded in [module for module in sys.modules if module.partition(".")[0] == name]:
        del sys.modules[loaded]


@pytest.fixture
def add(tmp_path: Path, package: str) -> Add:
    def add_folder(name: str, *stated: Figure, code: str = EVALUATE) -> Path:
        folder = tmp_path / package / name
        folder.mkdir()
        (folder / "evaluate.py").write_text(code)
        if stated:
            figures.write(folder, stated)
        return folder

    return add_folder


@pytest.fixture
def run(tmp_path: Path, package: str, capsys: pytest.CaptureFixture[str]) -> Run:
    def main(*arguments: str) -> tuple[int, str]:
        code = quality.main(["--data", str(tmp_path / "data"), *arguments], package)
        out, err = capsys.readouterr()
        return code, out if code != 78 else err

    return main


def test_a_figure_that_is_found_again_is_believed(add: Add, run: Run) -> None:
    add("good", RIGHT)
    code, printed = run()
    assert code == 0
    assert "| good  | uar    |       | .600 | .700 |           | .667   | .667  | must reached, reproduced |" in printed
    assert "Every figure that was looked for is reproduced." in printed
    assert "reached as stated: 1 of 1 musts and 0 of 1 aims" in printed
    assert "what a recipe prints" not in printed


def test_a_figure_further_away_than_its_tolerance_is_not(add: Add, run: Run) -> None:
    add("boast", Figure(name="uar", what="UAR", value=0.7, tolerance=0.001, must=0.6, aim=0.7))
    code, printed = run()
    assert code == 1
    assert "- boast: uar: stated .700, found .667: 0.0333 apart, 0.001 allowed" in printed


def test_a_figure_that_is_no_number_is_not_reproduced(add: Add, run: Run) -> None:
    add("odd", RIGHT, code=EVALUATE.replace("sum(right) / len(right)", 'float("nan")'))
    assert run()[0] == 1


def test_a_stated_figure_that_nobody_finds_is_wrong_and_so_is_one_that_nobody_states(add: Add, run: Run) -> None:
    add("more", RIGHT, Figure(name="f1", what="F1", value=0.5, tolerance=0.01))
    another = 'return [Figure(name="f1", what="F1", value=1, tolerance=1), '
    add("less", RIGHT, code=EVALUATE.replace("return [", another))
    code, printed = run()
    assert code == 1
    assert "- more: f1: stated, but evaluate doesn't find it" in printed
    assert "- less: f1: found, but the card doesn't state it" in printed


def test_a_missed_must_needs_a_reason(add: Add, run: Run) -> None:
    code = EVALUATE.replace("must=.6, aim=.7", "must=.9, aim=.95")
    add("mute", replace(RIGHT, must=0.9, aim=0.95), code=code)
    assert "- mute: uar: .667 misses its must of .900, and no reason is given" in run()[1]
    add("frank", replace(RIGHT, must=0.9, aim=0.95, missed="three items are few"), code=code)
    exit_code, printed = run("--only", "frank")
    assert exit_code == 0
    assert "- frank uar: three items are few" in printed
    assert run()[0] == 1


def test_a_card_may_not_lower_the_bound_that_evaluate_knows(add: Add, run: Run) -> None:
    add("low", replace(RIGHT, must=0.5))
    code, printed = run()
    assert code == 1
    assert "its must is stated as 0.5, evaluate has 0.6" in printed


def test_an_error_in_a_model_folder_is_reported_with_its_line_and_stops_no_other(
    add: Add, run: Run, tmp_path: Path, package: str
) -> None:
    add("broken", RIGHT, code=EVALUATE.replace("answers.txt", "nowhere.txt"))
    add("garbled", RIGHT, code="figures =")
    add("listless").joinpath("figures.json").write_text("{}")
    add("bare")
    add("silent").joinpath("model.json").write_text("{}")
    (tmp_path / package / "silent" / "evaluate.py").unlink()
    add("whole", RIGHT)
    code, printed = run()
    assert code == 1
    assert re.search(r"- broken: figures: FileNotFoundError: .*nowhere.txt.* \(evaluate.py, line 6\)", printed)
    assert "- garbled: evaluate can't be imported: SyntaxError" in printed
    assert "- listless: figures.json is not a list of figures" in printed
    assert "- bare: has no figures.json" in printed
    assert "- silent: has no figures.json: `evaluate --write` makes it" in printed
    assert "whole: 1 of 1 figures reproduced" in printed


def test_a_name_stated_or_found_twice_is_wrong(add: Add, run: Run) -> None:
    add("twice", RIGHT, RIGHT)
    assert "- twice: uar is stated 2 times" in run()[1]


def test_times_and_training_are_left_out_visibly_where_nobody_asks_for_them(add: Add, run: Run) -> None:
    add("fast", RIGHT, MS, replace(MS, name="times_torch"), code=EVALUATE + SPEED + RETRAIN)
    code, printed = run("--without-speed", "--without-retraining")
    assert code == 0
    assert "is not installed" not in printed
    assert "- fast, speed: not asked for" in printed
    assert "- fast, retraining: not asked for" in printed
    assert "fast: 1 of 1 figures reproduced" in printed


def test_training_is_skipped_with_what_to_install_and_times_are_taken(add: Add, run: Run) -> None:
    add("fast", RIGHT, MS, code=EVALUATE + SPEED + RETRAIN)
    code, printed = run()
    assert code == 0
    assert "- fast, retraining: needs library_for_training_only: pip install -e '.[train]'" in printed
    assert "fast: 2 of 2 figures reproduced" in printed


def test_a_missing_module_of_ours_or_of_the_run_time_is_no_excuse(add: Add, run: Run) -> None:
    add("typo", RIGHT, code=EVALUATE + RETRAIN.replace("library_for_training_only", "models.nowhere"))
    add("heavy", RIGHT, code=EVALUATE.replace('    print("', '    import library_for_training_only\n    print("'))
    code, printed = run()
    assert code == 1
    assert "- typo: retraining: ModuleNotFoundError" in printed
    assert "- heavy: figures: ModuleNotFoundError" in printed


def test_a_fold_trained_again_is_a_figure_like_others(add: Add, run: Run) -> None:
    again = """
def retrain_one(data, work):
    (work / "fold.txt").write_text("trained")
    return [Figure(name="retrained_uar", what="UAR of one fold, trained again", value=.5, tolerance=.05)]
"""
    stated = Figure(name="retrained_uar", what="UAR of one fold", value=0.52, tolerance=0.05)
    add("folds", RIGHT, stated, code=EVALUATE + again)
    assert run()[0] == 0
    assert run("--without-retraining")[0] == 0


def test_a_comparison_with_what_is_not_installed_is_skipped_and_says_so(
    add: Add, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = Figure(name="times_torch", what="torch takes so many times as long", value=3, tolerance=1)
    add("fast", RIGHT, MS, beside, code=EVALUATE + SPEED)
    monkeypatch.setattr("models.speed.importlib.util.find_spec", lambda name: None)
    code, printed = run()
    assert code == 0
    assert "- fast times_torch: torch is not installed" in printed
    monkeypatch.setattr("models.speed.importlib.util.find_spec", lambda name: name)
    assert run()[0] == 1


def test_weights_beyond_the_most_are_refused(add: Add, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    add("heavy", RIGHT).joinpath("model.onnx").write_bytes(b"12345678")
    assert run()[0] == 0
    monkeypatch.setattr(quality_report, "WEIGHTS_MAX", 7)
    code, printed = run()
    assert code == 1
    assert "MISSED" in printed


def test_a_missing_folder_and_a_model_that_is_not_there_are_both_reported_at_once(add: Add, run: Run) -> None:
    add("good", RIGHT)
    code, printed = run("--data", "nowhere", "--only", "good", "god")
    assert code == 78
    assert "--data: nowhere is no folder" in printed
    assert "--only: no model god; there are good" in printed


def test_tools_get_everything(add: Add, run: Run, tmp_path: Path) -> None:
    add("good", RIGHT)
    run("--json", str(tmp_path / "quality.json"))
    (result,) = json.loads((tmp_path / "quality.json").read_text())["rooms"]
    assert result["comparisons"][0]["found"]["value"] == pytest.approx(2 / 3)
    assert result["problems"] == []

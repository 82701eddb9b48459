"""Measure the floor, TF-IDF and a linear model on the same lines: `python -m models.text_intent.recipe.floor`.

Words and pairs of words, and pieces of words of two to five letters, each weighed by TF-IDF; a multinomial logistic
regression whose strength has the best macro-F1 on unseen template families. Its figures on the test lines are appended
to `test_log.jsonl`. Needs scikit-learn.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline, make_union

from kernels import scores
from kernels.engines import MODELS
from models.scores import Score, interval, lead
from models.test_log import append_figures
from models.text_intent.evaluate import MODEL, probabilities, read_test
from models.text_intent.recipe import corpus
from models.text_intent.recipe.scores import macro_f1

_STRENGTHS = (1.0, 10.0)

Floats = NDArray[np.float64]


def fitted(texts: list[str], truth: NDArray[np.int64], weight: Floats, strength: float) -> Pipeline:
    """Fit the floor to texts, intents and weights (n)."""
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+|[^\w\s]")  # noqa: S106 - what a word is
    pieces = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=2)
    model = make_pipeline(make_union(words, pieces), LogisticRegression(C=strength, max_iter=1000, tol=1e-5))
    return model.fit(texts, truth, logisticregression__sample_weight=weight)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m models.text_intent.recipe.floor", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds clinc150/ and goemotions/")
    given = parser.parse_args()
    lines = corpus.lines(given.data)
    texts, truth = [line.text for line in lines], corpus.indices([line.intent for line in lines])
    weight, ours = corpus.weights(lines), np.array([corpus.source(line) == "template" for line in lines])
    out = (corpus.folds(lines) == 0) & ours
    rest = corpus.folds(lines) != 0
    found: dict[float, float] = {}
    for strength in _STRENGTHS:
        model = fitted([texts[at] for at in np.flatnonzero(rest)], truth[rest], weight[rest], strength)
        guess = model.predict([texts[at] for at in np.flatnonzero(out)])
        found[strength] = macro_f1(truth[out], guess, weight[out])
        print(f"strength {strength}: macro-F1 on unseen families {found[strength]:.4f}", flush=True)
    judged = read_test()
    model = fitted(texts, truth, weight, max(found, key=lambda strength: found[strength]))
    ours, theirs, n = probabilities(judged.texts).argmax(axis=1), model.predict(judged.texts), len(judged.texts)

    def score_of(guess: NDArray[np.int64]) -> Score:
        return lambda rows: scores.macro_f1(judged.truth[rows], guess[rows])

    low, high = interval(score_of(theirs), n)
    ahead = lead(score_of(ours), score_of(theirs), n)
    floor = {"floor_macro_f1": score_of(theirs)(np.arange(n)), "floor_macro_f1_low": low, "floor_macro_f1_high": high}
    floor |= {"gain": ahead.value, "gain_low": ahead.low, "gain_high": ahead.high}
    append_figures(MODELS / MODEL, floor)
    for name, value in floor.items():
        print(f"{name:28} {value:.4f}")


if __name__ == "__main__":
    main()

"""A trait as a classifier sees it: logistic regression on sentence embeddings.

Trained on texts written under opposite instructions, grouped by question so that no question is in
both a training and a test fold; validated on texts written in either pole that it never saw (`data/gold`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from prefvec.errors import TraitError
from prefvec.metrics.content import encode

STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)  # inverse penalties tried, C of scikit-learn
FOLDS = 5  # and so the fewest questions that a classifier can be trained on


class TraitClassifier(NamedTuple):
    """Weights `[384]` and intercept on unit-length embeddings, and how well it separates the poles.

    `auc`: area under the curve on held-out folds of the training texts; `n` of them.
    """

    weights: np.ndarray
    intercept: float
    strength: float
    auc: float
    n: int

    def scores(self, texts: Sequence[str]) -> np.ndarray:
        """Log-odds `[n]` that a text is of the positive pole; NaN for an empty one."""
        empty = np.array([not text.strip() for text in texts])
        return np.where(empty, np.nan, encode(texts) @ self.weights + self.intercept)


def fit_classifier(
    positive: Sequence[str],
    negative: Sequence[str],
    groups: Sequence[str],
    seed: int = 0,
    folds: int = FOLDS,
) -> TraitClassifier:
    """Fit on texts of both poles; `groups[i]` names what positive[i] and negative[i] have in common
    (the question). Raises TraitError when there is too little to fit."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold, cross_val_predict

    if len(positive) != len(negative) or len(groups) != len(positive):
        raise TraitError("classifier: texts of both poles and their groups must be equally many")
    texts = [*positive, *negative]
    labels = np.repeat([1, 0], len(positive))
    both = np.array([*groups, *groups])
    kept = np.array([bool(text.strip()) for text in texts])
    x, labels, both = (
        encode([t for t, k in zip(texts, kept, strict=True) if k]),
        labels[kept],
        both[kept],
    )
    if len(set(both)) < folds or min(labels.sum(), (1 - labels).sum()) < folds:
        raise TraitError(
            f"classifier: {len(labels)} texts on {len(set(both))} questions are too few; "
            f"at least {folds} of each pole on {folds} questions are needed"
        )

    def model(strength: float) -> LogisticRegression:
        return LogisticRegression(C=strength, max_iter=2000, random_state=seed)

    splits = list(GroupKFold(folds).split(x, labels, both))
    scores = [
        cross_val_predict(model(c), x, labels, cv=splits, method="decision_function")
        for c in STRENGTHS
    ]
    chosen = simplest_within_error(
        [[area_under_curve(s[test], labels[test]) for _, test in splits] for s in scores]
    )
    fitted = model(STRENGTHS[chosen]).fit(x, labels)
    auc = area_under_curve(scores[chosen], labels)
    return TraitClassifier(
        fitted.coef_[0], float(fitted.intercept_[0]), STRENGTHS[chosen], auc, len(labels)
    )


def simplest_within_error(aucs: Sequence[Sequence[float]]) -> int:
    """Index of the strongest penalty whose mean area is within one standard error of the best one's
    (Breiman et al. 1984, section 3.4.3), from areas `[penalties, folds]`, strongest first.

    The best by itself would change with a text that differs by a token, and with it the scale of
    every score."""
    values = np.asarray(aucs, float)
    means = np.nanmean(values, axis=1)
    best = int(np.nanargmax(means))
    known = values[best][~np.isnan(values[best])]
    error = known.std(ddof=1) / np.sqrt(len(known)) if len(known) > 1 else 0.0
    return int(np.argmax(means >= means[best] - error))


def area_under_curve(scores: Sequence[float], labels: Sequence[int]) -> float:
    """Probability that a positive text scores above a negative one, ties counting half
    (Mann & Whitney 1947); NaN where a pole has no score."""
    from sklearn.metrics import roc_auc_score

    scores, labels = np.asarray(scores, float), np.asarray(labels) > 0
    known = ~np.isnan(scores)
    if len(set(labels[known])) < 2:
        return float("nan")
    return float(roc_auc_score(labels[known], scores[known]))

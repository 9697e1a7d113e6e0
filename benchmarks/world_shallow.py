"""What bag of words and word-overlap counts reach on the tasks: no argument."""

import sys, re, numpy as np
from apet_microworld.tasks import rows
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.ensemble import HistGradientBoostingClassifier

P = {
    "mnli": ("premise", "hypothesis"),
    "qnli": ("question", "sentence"),
    "rte": ("sentence1", "sentence2"),
    "mrpc": ("sentence1", "sentence2"),
    "qqp": ("question1", "question2"),
    "sst2": ("sentence",),
    "imdb": ("text",),
    "rotten_tomatoes": ("text",),
}
for t, cols in P.items():
    tr, va = rows(t, "train"), rows(t, "validation")
    y, yv = [r["label"] for r in tr], [r["label"] for r in va]
    X = [" ".join("%d_%s" % (i, w) for i, c in enumerate(cols) for w in r[c].split()) for r in tr]
    XV = [" ".join("%d_%s" % (i, w) for i, c in enumerate(cols) for w in r[c].split()) for r in va]
    v = CountVectorizer(token_pattern=r"\S+", ngram_range=(1, 1))
    A = v.fit_transform(X)
    bow = LogisticRegression(max_iter=300, C=0.3).fit(A, y).score(v.transform(XV), yv)

    def f(r):
        a = [r[c].split() for c in cols]
        if len(a) == 1:
            a = a * 2
        s, u = set(a[0]), set(a[1])
        neg = lambda w: sum(x in ("not", "no", "any") for x in w)
        return [
            len(a[0]),
            len(a[1]),
            len(s & u),
            len(u - s),
            len(s - u),
            neg(a[0]),
            neg(a[1]),
            len(set(zip(a[0], a[0][1:])) & set(zip(a[1], a[1][1:]))),
        ]

    g = HistGradientBoostingClassifier().fit(np.array([f(r) for r in tr]), y).score(np.array([f(r) for r in va]), yv)
    print(t, "bow", round(bow, 3), "overlap", round(g, 3), flush=True)

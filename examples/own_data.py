"""A file of labeled texts to a model that others serve: recommend, train on, export, answer.

python examples/own_data.py 10m
"""

import csv
import random
import sys

import apet

WITHIN = sys.argv[1] if len(sys.argv) > 1 else "2m"
BACKBONE = "microworld-bert-small"  # in earnest a folder or hub id, such as google-bert/bert-base-uncased

# A file as people have it: here made up, in the words that the small backbone knows.
GOOD, BAD = ("witty", "tender", "touching", "funny"), ("dull", "stale", "weak", "ugly")
draw = random.Random(0)
with open("reviews.csv", "w", newline="") as file:
    rows = csv.writer(file)
    rows.writerow(["review", "stars"])
    for n in range(240):
        words = GOOD if n % 2 else BAD
        rows.writerow(
            [f"the {draw.choice(['plot', 'cast', 'acting', 'pace'])} is {draw.choice(words)} . film {n}", n % 2]
        )

# How few parameters, where, in what structure? The same call goes on where it ended.
answer = apet.recommend(
    BACKBONE, data="reviews.csv", text=["review"], label="stars", within=WITHIN, output="runs/answer", max_steps=60
)
print(answer.headline)
if answer.use is None:
    sys.exit("nothing is measured yet; give it more time")

# The run behind the answer, as files that need no apet where it merges, else with a script beside them.
run = apet.Run(answer.use.run)
try:
    exported = apet.export(run.folder, "served")
except apet.NotMergeableError:
    exported = apet.export(run.folder, "served", to="delta")
print(exported.usage)
print(run.predict(["the plot is tender", "the cast is stale"])[["review", "prediction"]])

import sys, torch
from apet_microworld.lexicon import *
from apet_microworld.world import cast
from transformers import AutoTokenizer, AutoModelForSeq2SeqLM, logging

logging.set_verbosity_error()
for out in sys.argv[1:]:
    tok = AutoTokenizer.from_pretrained(out)
    m = AutoModelForSeq2SeqLM.from_pretrained(out, dtype=torch.float32)
    E = m.get_input_embeddings().weight.detach()
    names = [n for t in THINGS.values() for p in t for n in p]
    for form in ("", "s"):
        ids = torch.tensor(tok.convert_tokens_to_ids([n + form for n in names]))
        ok = ids != tok.unk_token_id
        V = E[ids] - E[ids].mean(0)
        V = V / V.norm(dim=1, keepdim=True)
        S = V @ V.T
        S.fill_diagonal_(-9)
        res = {}
        for split in ("train", "validation", "test"):
            ranks = []
            same = []
            for i, n in enumerate(names):
                if n not in cast(split).nouns:
                    continue
                order = S[i].argsort(descending=True).tolist()
                ranks.append(order.index(names.index(OTHER_NAME[n])))
                same.append(sum(ABOVE[names[j]] == ABOVE[n] for j in order[:10]) / 10)
            res[split] = (
                sorted(ranks)[len(ranks) // 2],
                round(sum(r == 0 for r in ranks) / len(ranks), 2),
                round(sum(same) / len(same), 2),
            )
        print(out, form or "sing", res)
    ids = torch.tensor(tok.convert_tokens_to_ids(list(PRAISE + BLAME)))
    V = E[ids] - E[ids].mean(0)
    y = torch.tensor([1.0] * len(PRAISE) + [-1.0] * len(BLAME))
    tr = torch.tensor([w in cast("train").praise + cast("train").blame for w in PRAISE + BLAME])
    d = (V[tr] * y[tr, None]).mean(0)
    print("polarity", float(((V @ d)[~tr].sign() == y[~tr]).float().mean()))

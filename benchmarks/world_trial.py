"""pretrain SCALE STEPS OUT | ft OUT TASKS STEPS LR"""

import sys, time, json, torch
from pathlib import Path

torch.set_num_threads(1)
cmd = sys.argv[1]
if cmd == "pretrain":
    from apet_microworld.pretrain import pretrain

    name, steps, out = sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])
    pretrain(
        name,
        out,
        max_steps=steps,
        documents=int(sys.argv[5]) if len(sys.argv) > 5 else 60000,
        report=lambda s, l, t: print(name, s, round(l, 3), round(t), flush=True),
    )
else:
    from transformers import AutoTokenizer, T5ForConditionalGeneration, logging

    logging.set_verbosity_error()
    from apet_microworld.tasks import rows

    out, tasks, steps, lrs = (
        sys.argv[2],
        sys.argv[3].split(","),
        int(sys.argv[4]),
        [float(x) for x in sys.argv[5].split(",")],
    )
    tok = AutoTokenizer.from_pretrained(out)
    T = {
        "sst2": ("{sentence} it was", ["bad", "good"]),
        "rotten_tomatoes": ("{text} it was", ["bad", "good"]),
        "imdb": ("{text} it was", ["bad", "good"]),
        "mnli": ("{premise} is it true that {hypothesis}", ["yes", "maybe", "no"]),
        "qnli": ("{question} {sentence} is that answered ?", ["yes", "no"]),
        "rte": ("{sentence1} is it true that {sentence2}", ["yes", "no"]),
        "mrpc": ("{sentence1} does this mean that {sentence2}", ["no", "yes"]),
        "qqp": ("{question1} {question2} is that the same ?", ["no", "yes"]),
    }
    for task in tasks:
        tpl, words = T[task]
        ids = tok.convert_tokens_to_ids(words)

        def enc(rs):
            x = [tok(tpl.format(**r))["input_ids"] for r in rs]
            y = [ids[r["label"]] for r in rs]
            return x, y

        tr, va, fresh = enc(rows(task, "train")), enc(rows(task, "validation")), enc(rows(task, "train", 1)[:1000])

        def batch(x):
            w = max(map(len, x))
            t = torch.tensor([r + [0] * (w - len(r)) for r in x])
            return t, (t != 0).long()

        def acc(m, d, n=1000):
            ok = 0
            order = sorted(range(min(n, len(d[0]))), key=lambda i: len(d[0][i]))
            with torch.no_grad():
                for i in range(0, len(order), 250):
                    o = order[i : i + 250]
                    t, a = batch([d[0][j] for j in o])
                    l = m(
                        input_ids=t, attention_mask=a, decoder_input_ids=torch.zeros(len(o), 1, dtype=torch.long)
                    ).logits[:, 0]
                    p = l[:, ids].argmax(1)
                    ok += sum(int(ids[k] == d[1][j]) for k, j in zip(p.tolist(), o))
            return round(ok / len(order), 3)

        for lr in lrs:
            torch.manual_seed(0)
            m = T5ForConditionalGeneration.from_pretrained(out, dtype=torch.float32)
            un = acc(m, va)
            opt = torch.optim.AdamW(m.parameters(), lr=lr, fused=True, weight_decay=0)
            g = torch.Generator().manual_seed(0)
            n = len(tr[0])
            order = []
            t0 = time.time()
            log = []
            for s in range(steps):
                for gr in opt.param_groups:
                    gr["lr"] = lr * min(1, (s + 1) / 50) * (1 - s / steps)
                if len(order) < 32:
                    order = torch.randperm(n, generator=g).tolist()
                o, order = order[:32], order[32:]
                t, a = batch([tr[0][j] for j in o])
                y = torch.tensor([[tr[1][j]] for j in o])
                m.train()
                loss = m(input_ids=t, attention_mask=a, labels=y).loss
                loss.backward()
                torch.nn.utils.clip_grad_norm_(m.parameters(), 1.0)
                opt.step()
                opt.zero_grad()
                if (s + 1) % (steps // 4) == 0:
                    m.eval()
                    log.append(acc(m, va))
            print(
                Path(out).name,
                task,
                lr,
                "untrained",
                un,
                "ft",
                log,
                "train",
                acc(m, tr),
                "fresh",
                acc(m, fresh),
                round(time.time() - t0),
                "s",
                flush=True,
            )

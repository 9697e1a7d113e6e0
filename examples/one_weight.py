"""Plain PyTorch: train 16 chosen entries of one weight of a model, and nothing else."""

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import apet
from apet.delta import Insertion, TrainableWeight
from apet.masks.mask import listed_mask

torch.manual_seed(0)
sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "vocab_size": 97}
model = LlamaForCausalLM(LlamaConfig(**sizes))  # in earnest: AutoModelForCausalLM.from_pretrained("…")
before = {name: p.clone() for name, p in model.named_parameters()}

# "apet positions BACKBONE" lists the places. A method would choose entries by itself; here they are ours: of the rows
# of four tokens the first four features alone.
place = apet.describe(model).position("decoder.embed.tokens.weight")
chosen = (5, 17, 42, 61)
entries = [token * place.shape[1] + feature for token in chosen for feature in range(4)]
weight = TrainableWeight("delta", listed_mask(place.shape, entries))
spec = apet.DeltaSpec((Insertion("weight", place.name, (weight,)),), type(model).__name__, model.num_parameters())
handle = apet.attach(model, spec)
optimizer = torch.optim.AdamW(handle.parameters(), lr=3e-2)

tokens = torch.randint(97, (8, 12))
tokens[:, 2:6] = torch.tensor(chosen)
losses = []
for _ in range(20):
    optimizer.zero_grad()
    loss = model(input_ids=tokens, labels=tokens).loss
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
print(f"loss {losses[0]:.3f} -> {losses[-1]:.3f}")

handle.save("delta")  # 16 values, where they lie, and the fingerprint of the backbone
handle.merge()  # the values become part of the weight; without forget=True the way back stays open
changed = {name: int((p != before[name]).sum()) for name, p in model.named_parameters() if name in before}
print({name: count for name, count in changed.items() if count})
handle.detach()
assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())

"""Mamba: its state matrices, named by their paths."""

import torch
from transformers import MambaConfig, MambaForCausalLM, Trainer, TrainingArguments

import apet

config = MambaConfig(vocab_size=97, hidden_size=32, num_hidden_layers=2, state_size=8)
model = MambaForCausalLM(config)  # in earnest: MambaForCausalLM.from_pretrained("state-spaces/mamba-130m-hf")
handle = apet.attach(model, apet.plan(model, "apet", budget=300, roles=["backbone.layers.*.mixer"]))
ids = torch.randint(5, 90, (8, 12))
data = [{"input_ids": row, "labels": row} for row in ids]
trainer = Trainer(model, TrainingArguments("out", max_steps=3, report_to=[], save_strategy="no"), train_dataset=data)
print(trainer.train().metrics["train_loss"], handle.spec, handle.save("delta"))

"""GPT-2: 0.3 % of its entries, drawn one by one."""

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

import apet

config = GPT2Config(vocab_size=97, n_embd=32, n_layer=2, n_head=4, n_positions=64)
model = GPT2LMHeadModel(config)  # in earnest: GPT2LMHeadModel.from_pretrained("openai-community/gpt2")
handle = apet.attach(model, apet.plan(model, "apet", budget="0.3%", distribution="discrete"))
ids = torch.randint(5, 90, (8, 12))
data = [{"input_ids": row, "labels": row} for row in ids]
trainer = Trainer(model, TrainingArguments("out", max_steps=3, report_to=[], save_strategy="no"), train_dataset=data)
print(trainer.train().metrics["train_loss"], handle.spec, handle.save("delta"))

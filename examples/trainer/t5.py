"""T5 v1.0, whose output projection is its embedding: an adapter of 400 parameters."""

import torch
from transformers import T5Config, T5ForConditionalGeneration, Trainer, TrainingArguments

import apet

config = T5Config(vocab_size=97, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, decoder_start_token_id=0)
model = T5ForConditionalGeneration(
    config
)  # in earnest: T5ForConditionalGeneration.from_pretrained("google-t5/t5-small")
handle = apet.attach(model, apet.plan(model, "adapter", budget=400))
ids = torch.randint(5, 90, (8, 12))
data = [{"input_ids": row, "labels": row} for row in ids]
trainer = Trainer(model, TrainingArguments("out", max_steps=3, report_to=[], save_strategy="no"), train_dataset=data)
print(trainer.train().metrics["train_loss"], handle.spec, handle.save("delta"))

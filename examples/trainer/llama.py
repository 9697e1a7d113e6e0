"""Llama: LoRA of exactly 1,000 parameters."""

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

import apet

config = LlamaConfig(vocab_size=97, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48)
model = LlamaForCausalLM(config)  # in earnest: LlamaForCausalLM.from_pretrained("meta-llama/Llama-3.2-1B")
handle = apet.attach(model, apet.plan(model, "lora", budget=1000))
ids = torch.randint(5, 90, (8, 12))
data = [{"input_ids": row, "labels": row} for row in ids]
trainer = Trainer(model, TrainingArguments("out", max_steps=3, report_to=[], save_strategy="no"), train_dataset=data)
print(trainer.train().metrics["train_loss"], handle.spec, handle.save("delta"))

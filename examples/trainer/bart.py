"""BART: LoRA on queries and values of both stacks."""

import torch
from transformers import BartConfig, BartForConditionalGeneration, Trainer, TrainingArguments

import apet

config = BartConfig(
    vocab_size=97,
    d_model=32,
    encoder_layers=2,
    decoder_layers=2,
    encoder_attention_heads=4,
    decoder_attention_heads=4,
    encoder_ffn_dim=48,
    decoder_ffn_dim=48,
)
model = BartForConditionalGeneration(
    config
)  # in earnest: BartForConditionalGeneration.from_pretrained("facebook/bart-base")
handle = apet.attach(model, apet.plan(model, "lora", rank=2))
ids = torch.randint(5, 90, (8, 12))
data = [{"input_ids": row, "labels": row} for row in ids]
trainer = Trainer(model, TrainingArguments("out", max_steps=3, report_to=[], save_strategy="no"), train_dataset=data)
print(trainer.train().metrics["train_loss"], handle.spec, handle.save("delta"))

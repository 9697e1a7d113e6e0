"""ModernBERT: 500 entries, and its classifier."""

import torch
from transformers import ModernBertConfig, ModernBertForSequenceClassification, Trainer, TrainingArguments

import apet

config = ModernBertConfig(
    vocab_size=97,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=48,
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=2,
    cls_token_id=1,
    sep_token_id=2,
)
model = ModernBertForSequenceClassification(
    config
)  # in earnest: ModernBertForSequenceClassification.from_pretrained("answerdotai/ModernBERT-base")
handle = apet.attach(model, apet.plan(model, "apet", budget=500), head="trained")
ids = torch.randint(5, 90, (8, 12))
data = [{"input_ids": row, "labels": n % 2} for n, row in enumerate(ids)]
trainer = Trainer(model, TrainingArguments("out", max_steps=3, report_to=[], save_strategy="no"), train_dataset=data)
print(trainer.train().metrics["train_loss"], handle.spec, handle.save("delta"))

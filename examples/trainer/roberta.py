"""RoBERTa: BitFit, and its classifier."""

import torch
from transformers import RobertaConfig, RobertaForSequenceClassification, Trainer, TrainingArguments

import apet

config = RobertaConfig(vocab_size=97, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48)
model = RobertaForSequenceClassification(
    config
)  # in earnest: RobertaForSequenceClassification.from_pretrained("FacebookAI/roberta-base")
handle = apet.attach(model, apet.plan(model, "bitfit"), head="trained")
ids = torch.randint(5, 90, (8, 12))
data = [{"input_ids": row, "labels": n % 2} for n, row in enumerate(ids)]
trainer = Trainer(model, TrainingArguments("out", max_steps=3, report_to=[], save_strategy="no"), train_dataset=data)
print(trainer.train().metrics["train_loss"], handle.spec, handle.save("delta"))

"""BERT: 500 entries anywhere, and its classifier."""

import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

import apet

config = BertConfig(vocab_size=97, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48)
model = BertForSequenceClassification(
    config
)  # in earnest: BertForSequenceClassification.from_pretrained("google-bert/bert-base-uncased")
handle = apet.attach(model, apet.plan(model, "apet", budget=500), head="trained")
ids = torch.randint(5, 90, (8, 12))
data = [{"input_ids": row, "labels": n % 2} for n, row in enumerate(ids)]
trainer = Trainer(model, TrainingArguments("out", max_steps=3, report_to=[], save_strategy="no"), train_dataset=data)
print(trainer.train().metrics["train_loss"], handle.spec, handle.save("delta"))

"""DeBERTa-v2: adapters, and its classifier."""

import torch
from transformers import DebertaV2Config, DebertaV2ForSequenceClassification, Trainer, TrainingArguments

import apet

config = DebertaV2Config(
    vocab_size=97,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=48,
    relative_attention=True,
    pos_att_type=["c2p", "p2c"],
)
model = DebertaV2ForSequenceClassification(
    config
)  # in earnest: DebertaV2ForSequenceClassification.from_pretrained("microsoft/deberta-v3-base")
handle = apet.attach(model, apet.plan(model, "adapter", bottleneck=4), head="trained")
ids = torch.randint(5, 90, (8, 12))
data = [{"input_ids": row, "labels": n % 2} for n, row in enumerate(ids)]
trainer = Trainer(model, TrainingArguments("out", max_steps=3, report_to=[], save_strategy="no"), train_dataset=data)
print(trainer.train().metrics["train_loss"], handle.spec, handle.save("delta"))

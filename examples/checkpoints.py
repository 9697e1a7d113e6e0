"""transformers' Trainer: checkpoints of a few kilobytes, interrupted and resumed, and the best one attached again."""

from pathlib import Path

import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

import apet


def load_backbone() -> BertForSequenceClassification:
    """In earnest: BertForSequenceClassification.from_pretrained("google-bert/bert-base-uncased")."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    return BertForSequenceClassification(BertConfig(**sizes, vocab_size=97))


def make_trainer(model: BertForSequenceClassification, handle: apet.Handle, max_steps: int) -> Trainer:
    """A Trainer as ever; the callback keeps the backbone out of its checkpoints."""
    rows = [{"input_ids": torch.arange(1, 13) + n, "labels": n % 2} for n in range(32)]
    arguments = TrainingArguments(
        "out", max_steps=max_steps, save_steps=4, learning_rate=1e-2, report_to=[], use_cpu=True, disable_tqdm=True
    )
    return Trainer(model, arguments, train_dataset=rows, callbacks=[apet.trainer_callback(handle)])


model = load_backbone()
handle = apet.attach(model, apet.plan(model, "lora", budget=512), head="trained")
make_trainer(model, handle, max_steps=4).train()  # ... and here the machine goes down

model = load_backbone()
handle = apet.attach(model, handle.spec, head="trained")
make_trainer(model, handle, max_steps=8).train(resume_from_checkpoint="out/checkpoint-4")

checkpoint = Path("out/checkpoint-8")
size = sum(file.stat().st_size for file in checkpoint.iterdir())
print(f"{checkpoint}: {size / 1000:.0f} kB; the model has {4 * model.num_parameters() / 1000:.0f}")

served = load_backbone().eval()
print(apet.load(served, checkpoint).spec)
same = torch.randint(1, 90, (2, 12))
assert torch.equal(served(input_ids=same).logits, model.eval()(input_ids=same).logits)

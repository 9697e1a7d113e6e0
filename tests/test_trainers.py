"""Checkpoints of trainers hold the delta and the optimizer alone; resuming and choosing the best work as ever."""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch as lightning
import pytest
import torch
from safetensors.torch import load_file
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, Trainer, TrainerCallback, TrainingArguments

import apet
from apet.interop.optimizer_state import pack
from apet.testing.tiny_models import batch, build, outputs, same_bits, shake, snapshot

CASES = [
    ("bert", "lora"),
    ("bert", "apet"),
    ("t5-relu-tied", "prompt"),
    ("t5-relu-tied", "fine-tuning"),
    ("gpt2", "bitfit"),
    ("gpt2", "ia3"),
]
every_case = pytest.mark.parametrize(("family", "method"), CASES)


def attached(family: str, method: str, head="frozen", seed: int = 3):
    """A model with dropout whose delta is not where it started."""
    model = build(family)
    chosen = {"distribution": "discrete", "roles": ["attn"], "operations": ["add"]} if method == "apet" else {}
    handle = apet.attach(model, apet.plan(model, method, 173 if method == "apet" else None, **chosen), head=head)
    shake(handle, seed=seed)
    return model, handle


def examples(model, n: int = 12, seed: int = 1) -> list[dict[str, torch.Tensor]]:
    inputs = batch(model, rows=3, seed=seed)
    return [{k: v[i % 3] for k, v in inputs.items()} for i in range(n)]


class Losses(TrainerCallback):
    """What the Trainer logged."""

    def __init__(self) -> None:
        self.by_step: dict[int, float] = {}

    def on_log(self, args, state, control, logs=None, **kwargs):
        if logs and "loss" in logs:
            self.by_step[state.global_step] = logs["loss"]


def trainer_of(model, handle, folder: Path, *callbacks: TrainerCallback, **chosen) -> Trainer:
    sequence = model.config.is_encoder_decoder
    settings = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 3,
        "max_steps": 4,
        "learning_rate": 3e-2,
        "save_steps": 2,
        "logging_steps": 1,
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
        "seed": 5,
        **({"predict_with_generate": True} if sequence else {}),
        **chosen,
    }
    trainer, arguments = (Seq2SeqTrainer, Seq2SeqTrainingArguments) if sequence else (Trainer, TrainingArguments)
    return trainer(
        model=model,
        args=arguments(**settings),
        train_dataset=examples(model),
        eval_dataset=examples(model, 3, seed=2),
        callbacks=[apet.trainer_callback(handle), *callbacks],
    )


def values(handle: apet.Handle) -> list[torch.Tensor]:
    return [v.detach().clone() for v in handle.parameters()]


def folder_size(folder: Path) -> int:
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())


# transformers -----------------------------------------------------------------------------------------------------


@every_case
def test_a_checkpoint_holds_the_delta_and_the_optimizer_only(family, method, tmp_path):
    model, handle = attached(family, method)
    trainer_of(model, handle, tmp_path).train()
    for checkpoint in (tmp_path / "checkpoint-2", tmp_path / "checkpoint-4"):
        files = load_file(checkpoint / "model.safetensors")
        assert set(files) == {"apet.attached.0._extra_state", "apet.attached.0.values"}
        assert folder_size(checkpoint) <= 16 * handle.spec.num_trainable + 64 * 1024
    assert torch.equal(files["apet.attached.0.values"], torch.cat(values(handle)))


@every_case
def test_resumed_training_is_the_uninterrupted_one_bit_for_bit(family, method, tmp_path):
    straight, resumed = Losses(), Losses()
    model, handle = attached(family, method)
    trainer_of(model, handle, tmp_path, straight).train()
    again, other = attached(family, method, seed=4)
    trainer_of(again, other, tmp_path, resumed).train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert list(resumed.by_step) == [3, 4]
    assert resumed.by_step == {step: straight.by_step[step] for step in (3, 4)}
    assert len(set(straight.by_step.values())) == 4
    assert all(torch.equal(a, b) for a, b in zip(values(handle), values(other), strict=True))
    other.detach()
    assert same_bits(snapshot(again), snapshot(build(family)))


@pytest.mark.parametrize("strategy", ["epoch", "best"])
def test_whenever_the_trainer_saves_it_saves_the_delta_alone(strategy, tmp_path):
    model, handle = attached("bert", "lora")
    chosen = {"eval_strategy": "epoch", "metric_for_best_model": "loss", "max_steps": -1, "num_train_epochs": 1}
    trainer_of(model, handle, tmp_path, save_strategy=strategy, **chosen).train()
    (checkpoint,) = tmp_path.iterdir()
    assert all(key.startswith("apet.") for key in load_file(checkpoint / "model.safetensors"))


@pytest.mark.parametrize("trainer", ["transformers", "lightning"])
@pytest.mark.filterwarnings("ignore")
def test_a_checkpoint_of_a_delta_in_very_many_tensors_is_as_small(trainer, tmp_path):
    """PyTorch wrote three tensors for each that is trained, at some 270 bytes each whatever is in them."""
    model = build("bert")
    handle = apet.attach(model, apet.plan(model, "apet", 173, sites="all"))
    assert len(handle.parameters()) > 70
    if trainer == "transformers":
        trainer_of(model, handle, tmp_path).train()
        size = folder_size(tmp_path / "checkpoint-2")
    else:
        fit(without_dropout(model), handle, tmp_path, 4)
        size = (tmp_path / "step=2.ckpt").stat().st_size
    assert size <= 16 * 173 + 64 * 1024


def test_a_packed_state_is_the_same_state():
    model = build("bert")
    handle = apet.attach(model, apet.plan(model, "apet", 300, sites="all"))
    optimizer = torch.optim.AdamW(handle.parameters(), lr=0.1)
    for _ in range(2):
        model(**batch(model)).loss.backward()
        optimizer.step()
    state = optimizer.state_dict()
    packed = pack(state)
    assert packed["param_groups"] == state["param_groups"]
    for n, entry in state["state"].items():
        assert all(torch.equal(packed["state"][n][k], v) for k, v in entry.items())
    assert len({v.untyped_storage().data_ptr() for e in packed["state"].values() for v in e.values()}) == 1


class Scores(TrainerCallback):
    """Replaces the loss of each evaluation by a given one."""

    def __init__(self, losses: list[float]) -> None:
        self.losses = iter(losses)

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        metrics["eval_loss"] = next(self.losses)


@pytest.mark.parametrize(
    ("family", "method", "best"), [(*case, 2) for case in CASES] + [(*CASES[1], 1), (*CASES[1], 3)]
)
def test_the_best_checkpoint_is_loaded_at_the_end(family, method, best, tmp_path):
    """The optimizer's steps are large, so that no two checkpoints are alike."""
    scores = [2.0 if step != best else 1.0 for step in (1, 2, 3)]
    model, handle = attached(family, method)
    trainer = trainer_of(
        model,
        handle,
        tmp_path,
        Scores(scores),
        max_steps=3,
        save_steps=1,
        eval_steps=1,
        eval_strategy="steps",
        load_best_model_at_end=True,
        metric_for_best_model="loss",
    )
    trainer.train()
    saved = [load_file(tmp_path / f"checkpoint-{n}" / "model.safetensors")["apet.attached.0.values"] for n in (1, 2, 3)]
    assert not any(torch.equal(saved[i], saved[j]) for i, j in ((0, 1), (1, 2), (0, 2)))
    assert trainer.state.best_model_checkpoint.endswith(f"checkpoint-{best}")
    assert torch.equal(torch.cat(values(handle)), saved[best - 1])
    fresh = build(family)
    apet.attach(fresh, handle.spec, values=dict(handle.values()))
    assert torch.equal(outputs(model.eval(), batch(model)), outputs(fresh, batch(fresh)))


def test_a_checkpoint_is_a_saved_delta(tmp_path):
    model, handle = attached("bert", "apet", head="trained")
    trainer_of(model, handle, tmp_path).train()
    fresh = build("bert")
    apet.load(fresh, tmp_path / "checkpoint-4")
    assert torch.equal(outputs(fresh, batch(fresh)), outputs(model.eval(), batch(model)))


@pytest.mark.parametrize("fails", [False, True], ids=["", "after a training that fails"])
def test_what_is_saved_by_hand_afterwards_is_the_whole_model(fails, tmp_path):
    class Failure(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, **kwargs):
            if fails and state.global_step == 3:
                raise KeyboardInterrupt

    model, handle = attached("gpt2", "bitfit")
    trainer = trainer_of(model, handle, tmp_path / "run", Failure())
    if fails:
        with pytest.raises(KeyboardInterrupt):
            trainer.train()
    else:
        trainer.train()
    assert set(load_file(tmp_path / "run" / "checkpoint-2" / "model.safetensors")) == {
        "apet.attached.0._extra_state",
        "apet.attached.0.values",
    }
    trainer.save_model(str(tmp_path / "whole"))
    backbone = type(model).from_pretrained(tmp_path / "whole").eval()
    assert same_bits(snapshot(backbone), snapshot(build("gpt2")))
    apet.load(backbone, tmp_path / "whole")
    assert torch.equal(outputs(backbone, batch(backbone)), outputs(model.eval(), batch(model)))


def test_the_trainer_warns_of_no_missing_key_when_it_resumes(tmp_path, caplog):
    model, handle = attached("bert", "lora")
    trainer_of(model, handle, tmp_path).train()
    again, other = attached("bert", "lora")
    trainer_of(again, other, tmp_path).train(resume_from_checkpoint=True)
    assert "missing keys" not in caplog.text
    assert "unexpected keys" not in caplog.text


def test_a_checkpoint_of_another_backbone_or_delta_is_refused_before_training(tmp_path):
    model, handle = attached("bert", "lora")
    trainer_of(model, handle, tmp_path).train()
    other = build("bert", seed=1)
    wrong = apet.attach(other, handle.spec)
    with pytest.raises(apet.ApetError, match="was trained on a BertForSequenceClassification with weights"):
        trainer_of(other, wrong, tmp_path).train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    again, bias = attached("bert", "bitfit")
    with pytest.raises(apet.ApetError, match="is not the one attached here"):
        trainer_of(again, bias, tmp_path).train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))


def test_without_the_callback_a_checkpoint_holds_backbone_and_delta_and_resumes_as_well(tmp_path):
    def plain(model, *callbacks):
        trainer = trainer_of(model, apet.attached(model)[0], tmp_path, *callbacks)
        trainer.remove_callback(type(apet.trainer_callback(apet.attached(model)[0])))
        return trainer

    model, handle = attached("bert", "apet")
    plain(model).train()
    files = load_file(tmp_path / "checkpoint-2" / "model.safetensors")
    own = {k: v for k, v in files.items() if not k.startswith("apet.")}
    assert same_bits(own, snapshot(build("bert")))
    again, other = attached("bert", "apet", seed=4)
    plain(again).train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert all(torch.equal(a, b) for a, b in zip(values(handle), values(other), strict=True))


def test_a_callback_for_another_model_or_a_delta_that_is_gone_is_refused(tmp_path):
    _, handle = attached("bert", "lora")
    other, _ = attached("bert", "lora")
    with pytest.raises(apet.ApetError, match="trains another model than the one"):
        trainer_of(other, handle, tmp_path).train()
    handle.merge()
    for make in (apet.trainer_callback, apet.lightning_callback):
        with pytest.raises(apet.ApetError, match="merged or no longer attached"):
            make(handle)


# Lightning --------------------------------------------------------------------------------------------------------


class Tuned(lightning.LightningModule):
    """A module as users write it, with a part of its own beside the backbone."""

    def __init__(self, model, handle):
        super().__init__()
        self.model, self.scale, self.losses = model, torch.nn.Linear(1, 1), {}
        self._parameters_to_train = handle.parameters()

    def training_step(self, batch, index):
        loss = self.model(**batch).loss
        self.losses[self.global_step] = loss.item()
        return loss

    def configure_optimizers(self):
        return torch.optim.AdamW(self._parameters_to_train, lr=3e-2)


def fit(model, handle, folder: Path, max_steps: int, resume: Path | None = None, callback: bool = True) -> Tuned:
    torch.manual_seed(0)
    saving = lightning.callbacks.ModelCheckpoint(folder, filename="{step}", every_n_train_steps=2, save_top_k=-1)
    trainer = lightning.Trainer(
        max_steps=max_steps,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[saving, *([apet.lightning_callback(handle)] if callback else [])],
    )
    module = Tuned(model, handle)
    trainer.fit(module, torch.utils.data.DataLoader(examples(model), batch_size=3), ckpt_path=resume)
    return module


def without_dropout(model):
    """Lightning keeps no state of the random generators: what it resumes drops out other activations."""
    for m in model.modules():
        if isinstance(m, torch.nn.Dropout):
            m.p = 0.0
    return model


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("family", "method"), [("bert", "apet"), ("gpt2", "lora")])
def test_a_lightning_checkpoint_holds_the_delta_and_resumes_bit_for_bit(family, method, tmp_path):
    model, handle = attached(family, method)
    straight = fit(without_dropout(model), handle, tmp_path, 4)
    path = tmp_path / "step=2.ckpt"
    keys = set(torch.load(path, weights_only=True)["state_dict"])
    delta = {"model.apet.attached.0._extra_state", "model.apet.attached.0.values"}
    assert keys == {*delta, "scale.weight", "scale.bias"}
    assert path.stat().st_size <= 16 * handle.spec.num_trainable + 64 * 1024
    again, other = attached(family, method, seed=4)
    resumed = fit(without_dropout(again), other, tmp_path / "again", 4, resume=path)
    assert resumed.losses == {step: straight.losses[step] for step in (2, 3)}
    assert all(torch.equal(a, b) for a, b in zip(values(handle), values(other), strict=True))
    other.detach()
    assert same_bits(snapshot(again), snapshot(build(family)))


@pytest.mark.filterwarnings("ignore")
def test_a_lightning_module_without_the_deltas_model_is_refused(tmp_path):
    model, _ = attached("bert", "lora")
    _, elsewhere = attached("bert", "lora")
    with pytest.raises(apet.ApetError, match="the Tuned does not hold the model"):
        fit(model, elsewhere, tmp_path, 2)

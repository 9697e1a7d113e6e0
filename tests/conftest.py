"""Every test runs offline, on one thread (two workers share the cores), with warnings of the hub silenced."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["OMP_NUM_THREADS"] = "1"

import torch
from hypothesis import settings

settings.register_profile("apet", deadline=None)  # shared machines drift; a slow draw is no failure
settings.load_profile("apet")
torch.set_num_threads(1)

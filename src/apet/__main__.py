"""``python -m apet``; for launchers of several processes: ``accelerate launch --module apet tune …``."""

from apet.cli import main

main()

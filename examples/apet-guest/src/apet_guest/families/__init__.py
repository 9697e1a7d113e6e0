"""Families of backbones, one YAML file each."""

"""Presets of ``roga-domainbed sweep --preset NAME``: one YAML file each."""

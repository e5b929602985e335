"""Checks of an installation against numbers that are not its own: oracles, identities, bands.

``checks`` says what a check is and how it ends. ``oracles`` compares with numbers that were recorded from an unmodified
DomainBed (``oracles.json``), ``identities`` tries what metrics and update rules must satisfy whoever wrote them, and
``trainings`` makes whole runs: the same twice, and inside bands.
"""

"""``SynthFake``: generated faces with four look-alike manipulations, for demos, tests and controlled experiments.

Input: nothing; the frames are drawn, with the same pixels on every machine. Labels: 0 real, 1 fake. Environments: DF,
F2F, FS, NT. The same people are in all of them, split 40 / 8 / 12 into official train, val and test; every environment
has recordings of its own. A fake shares person, pose, light, background and sensor noise with its real: only a face is
pasted over. Licence: that of this package.
"""

"""``SelfBlend``: your own face photographs, with four look-alike manipulations applied to their pixels.

Input: photographs, one face in each. Labels: 0 real, 1 fake. Environments: DF, F2F, FS, NT, with the same reals in
each, as in FaceForensics++. No person is in two of the official parts train, val and test. Licence: that of the
photographs.

    photographs  finds the photographs, who is in them and which part they belong to    → ``Layout``
    options      what decides the pixels
    face         one photograph: its face, and frames of it
    manipulate   the four manipulations
    compress     H.264, as FaceForensics++ is compressed
    blender      one photograph and one manipulation to one folder of frames
    dataset      the DomainBed dataset
"""

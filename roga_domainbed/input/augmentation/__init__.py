"""Image augmentation on batches of tensors: what is drawn, and what is done with it.

``spec`` says in numbers what an augmentation is, ``draws`` draws its parameters from a generator, ``apply`` carries
them out with ``geometry`` (crop, resize, flip), ``colour`` and ``degrade`` (blur, JPEG).
"""

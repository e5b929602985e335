import pytest

from roga_domainbed.engine.datasets.classes import class_indices


@pytest.mark.parametrize(
    ("real", "fake"),
    [
        ("0_real", "1_fake"),
        ("1_real", "0_fake"),
        ("real", "fake"),  # the alphabet would make fake 0
        ("Real", "FAKE"),
        ("original_sequences", "manipulated_sequences"),
        ("Celeb-real", "Celeb-synthesis"),
        ("real", "FaceSwap"),  # one understood name settles the other
        ("youtube", "deepfakes"),
    ],
)
def test_real_is_0_and_fake_is_1_whatever_the_alphabet_says(real, fake):
    assert class_indices([fake, real]) == ({real: 0, fake: 1}, ["real", "fake"])


PACS = ["dog", "elephant", "giraffe", "guitar", "horse", "house", "person"]


@pytest.mark.parametrize(
    ("folders", "indices", "classes"),
    [
        (["real", "0_real", "fake", "1_fake"], [0, 0, 1, 1], ["real", "fake"]),  # two spellings are one class
        (PACS, [0, 1, 2, 3, 4, 5, 6], PACS),
        (["realm", "surreal"], [0, 1], ["realm", "surreal"]),  # a word inside another word means nothing
        (["fake", "real", "unknown"], [0, 1, 2], ["fake", "real", "unknown"]),
        (["fake_a", "fake_b"], [0, 1], ["fake_a", "fake_b"]),  # without reals: two classes
    ],
)
def test_other_names_are_numbered_by_the_alphabet(folders, indices, classes):
    assert class_indices(reversed(folders)) == (dict(zip(folders, indices, strict=True)), classes)

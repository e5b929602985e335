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


def test_two_spellings_of_a_class_are_one_class():
    indices, names = class_indices(["real", "0_real", "fake", "1_fake"])
    assert indices == {"real": 0, "0_real": 0, "fake": 1, "1_fake": 1}
    assert names == ["real", "fake"]


def test_other_names_are_numbered_by_the_alphabet():
    names = ["dog", "elephant", "giraffe", "guitar", "horse", "house", "person"]
    assert class_indices(reversed(names)) == ({name: i for i, name in enumerate(names)}, names)


def test_a_word_inside_another_word_means_nothing():
    assert class_indices(["realm", "surreal"]) == ({"realm": 0, "surreal": 1}, ["realm", "surreal"])


def test_more_than_two_classes_of_which_some_are_understood_keep_the_alphabet():
    assert class_indices(["unknown", "real", "fake"])[0] == {"fake": 0, "real": 1, "unknown": 2}


def test_two_kinds_of_fakes_without_reals_stay_two_classes():
    assert class_indices(["fake_a", "fake_b"])[0] == {"fake_a": 0, "fake_b": 1}

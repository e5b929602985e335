import pytest

from roga_domainbed.input.classes import class_indices, fake_class, meaning


@pytest.mark.parametrize(
    ("real", "fake"),
    [
        ("0_real", "1_fake"),
        ("1_real", "0_fake"),
        ("real", "fake"),  # the alphabet would make fake 0
        ("Real", "FAKE"),
        ("original_sequences", "manipulated_sequences"),
        ("Celeb-real", "Celeb-synthesis"),
        ("genuine faces", "tampered"),
        ("bona fide", "spoof"),
        ("BonaFide", "attack"),
        ("live", "Spoof"),
        ("nature", "ai"),
        ("not_fake", "fake"),
        ("NotFake", "FakeFaces"),
        ("real", "not_real"),
        ("real", "non-real"),
        ("real", "unreal"),
        ("untampered", "tampered"),
        ("unmodified", "modified"),
        ("unfaked", "AI-generated"),
        ("isn't fake", "isn't real"),
        ("real_not_fake", "not_a_real_image"),
        ("training_real", "training_fake"),
        ("ReAl", "fAkE"),
    ],
)
def test_real_is_0_and_fake_is_1_whatever_the_alphabet_says(real, fake):
    assert class_indices([fake, real]) == ({real: 0, fake: 1}, ["real", "fake"])


@pytest.mark.parametrize(
    ("real", "fake"), [("real", "FaceSwap"), ("youtube", "deepfakes"), ("real", "Real-ESRGAN")]
)
def test_one_understood_name_of_two_gives_the_numbers_but_not_the_meaning(real, fake):
    indices, classes = class_indices([fake, real])
    assert (indices, classes) == ({real: 0, fake: 1}, [real, fake])
    assert fake_class(classes) is None
    assert fake_class(classes, [real], [fake]) == 1
    assert fake_class(classes, [fake], [real]) == 0
    assert fake_class(classes, [real]) is None, "the other one is not said"


@pytest.mark.parametrize(
    "name",
    [
        "Real-ESRGAN", "RealVisXL", "real_stylegan", "realm", "surreal", "fake_vs_real", "fake or real", "anti-spoof",
        "fake-free", "no_1_fake", "not", "0", "1", "cat", "", "not_not",
    ],
)  # fmt: skip
def test_a_name_that_does_not_say_it_means_nothing(name):
    assert meaning(name) is None


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

"""Which class a folder's name means, real or fake, and the number of every class, the same in all environments."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

REAL, FAKE = 0, 1
#: The classes of data about real and fake, in the order of their numbers.
REAL_AND_FAKE = ("real", "fake")

_REAL = set("real reals original originals genuine authentic pristine live bonafide natural nature".split())
_FAKE = set(
    "fake fakes faked deepfake deepfakes forged forgery forgeries manipulated manipulation manipulations synthetic "
    "synthesis synthesized synthesised generated spoof spoofs spoofed spoofing tampered tampering altered edited "
    "modified doctored counterfeit artificial ai attack attacks inauthentic".split()
)
#: A fake of something is a fake. A real with another word beside it may be a name: Real-ESRGAN is a generator.
_BESIDE_REAL = set(
    "a the of and only all class classes label set sets data dataset datasets train training val valid validation test "
    "testing face faces facial image images img imgs photo photos photograph photographs picture pictures frame frames "
    "video videos sequence sequences crop crops person people human humans actor actors sample samples celeb celebs "
    "youtube".split()
)
_NOT = {"not", "non", "never", "isnt", "un", "without"}
_UNCLEAR = {"anti", "free", "less", "no", "or", "versus", "vs"}  # "no" may count: fake_no_2


def meaning(name: str) -> int | None:
    """What a class of that name is: ``REAL``, ``FAKE``, or None if the name does not say, or says both.

    Words may be joined by anything but letters, or by capitals (``0_real``, ``Fake``, ``FakeFaces``,
    ``Celeb-synthesis``, ``bona fide``). A word of negation turns the next one round (``not_fake``, ``non-real``).
    """
    found, turned, beside = set(), False, set()
    for word in _words(name):
        if word in _NOT:
            turned = not turned
        elif word in _REAL or word in _FAKE:
            found.add((word in _FAKE) != turned)
            turned = False
        else:
            beside.add(word)
    if len(found) != 1 or turned or beside & _UNCLEAR:
        return None
    (is_fake,) = found
    return FAKE if is_fake else (REAL if beside <= _BESIDE_REAL else None)


def class_indices(folders: Iterable[str]) -> tuple[dict[str, int], list[str]]:
    """Number the class folders of a dataset.

    Folders whose names mean real and fake are numbered by meaning: real is 0 and fake is 1, whatever their alphabetical
    order. If only one of two names is understood, it gets its number and the other the other one. All other names are
    numbered in alphabetical order.

    Args:
        folders: names of the class folders in all environments together.

    Returns:
        Folder name to index, and the class names in the order of the indices: ``REAL_AND_FAKE`` if all folders are
        understood, their own names otherwise.
    """
    names = sorted(set(folders))
    meanings = {name: meaning(name) for name in names}
    understood = [name for name in names if meanings[name] is not None]
    if understood == names and set(meanings.values()) == {REAL, FAKE}:
        return meanings, list(REAL_AND_FAKE)
    if len(names) == 2 and len(understood) == 1 and meanings[understood[0]] != names.index(understood[0]):
        names.reverse()
    return {name: index for index, name in enumerate(names)}, names


def fake_class(classes: Sequence[str], real: Collection[str] = (), fake: Collection[str] = ()) -> int | None:
    """The index of the fake one of two classes; None if they are not known to be real and fake.

    Args:
        classes: names of all classes, in the order of their indices.
        real: those that the user says are real; with ``fake``, only what is said counts.
        fake: those that are fake.
    """
    if len(classes) != 2:
        return None
    meanings = [said_or_meant(name, real, fake) for name in classes]
    return meanings.index(FAKE) if set(meanings) == {REAL, FAKE} else None


def said_or_meant(name: str, real: Collection[str] = (), fake: Collection[str] = ()) -> int | None:
    """What a class is: as the user said, if anything was said, else by its name; None if that does not tell."""
    if real or fake:
        return REAL if name in real else FAKE if name in fake else None
    return meaning(name)


def _words(name: str) -> list[str]:
    words: list[str] = []
    for text in re.findall(r"[^\W\d_]+", name.replace("'", "")):
        lower = text.lower()
        if lower in _REAL | _FAKE | _NOT | _BESIDE_REAL or text in (lower, text.upper()):
            parts = [lower]
        else:
            parts = [part.lower() for part in re.findall(r"[^\W\d_a-z]+(?![a-z])|[^\W\d_a-z]?[a-z]+", text)]
        for part in parts:
            words += _apart(part)
    return " ".join(words).replace("bona fide", "bonafide").split()


def _apart(word: str) -> list[str]:
    """``notfake``, ``nonreal`` and ``untampered`` as two words."""
    for prefix in ("not", "non", "un"):
        rest = word.removeprefix(prefix)
        if rest != word and rest in _REAL | _FAKE:
            return [prefix, rest]
    return [word]

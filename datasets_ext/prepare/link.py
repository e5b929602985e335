"""Frames that are face crops already: taken as they are, by copy or by link, never encoded again."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from datasets_ext.prepare.clips import Clip, Outcome, frame_name
from datasets_ext.prepare.images import is_whole, present_images, spaced
from datasets_ext.prepare.parts import put_in_place, renew
from roga_domainbed.errors import RogaError, unknown_name

# How a file system says that it cannot make this link: another disk, no permission, read-only, unsupported, too many.
_REFUSED = {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EROFS, errno.ENOTSUP, errno.EMLINK}


def _symlink(path: Path, target: Path) -> None:
    os.symlink(os.path.abspath(path), target)


#: Name → how a file gets its second name.
LINKS: dict[str, Callable[[Path, Path], object]] = {
    "copy": shutil.copyfile,
    "hardlink": os.link,
    "symlink": _symlink,
}


@dataclass(frozen=True)
class LinkOptions:
    """Images are taken as they are.

    Attributes:
        n_frames: frames of each video, evenly spaced among those that are there, at most.
        link: a key of ``LINKS``.
    """

    n_frames: int = 32
    link: str = "copy"

    MAKER: ClassVar[str] = "datasets_ext.prepare.link:Linker"
    NEEDS: ClassVar[tuple[str, ...]] = ()

    def problems(self) -> list[str]:
        """One sentence for every value out of range, in the words of the command line."""
        found = [] if self.n_frames >= 1 else [f"--n_frames must be at least 1; got {self.n_frames}"]
        if self.link not in LINKS:
            found.append(unknown_name("kind of link", self.link, LINKS))
        return found

    def arguments(self) -> tuple:
        """The options alone."""
        return (self,)


class Linker:
    """The maker of ``LinkOptions``."""

    def __init__(self, options: LinkOptions):
        self._options = options

    def __call__(self, clip: Clip, root: Path, staging: Path) -> Outcome:
        """Give the images of ``clip`` names in ``root / clip.folder``, which appears whole.

        Each is decoded once, so that a damaged one is reported now and not in training.
        """
        present, absent = present_images(clip)
        dropped = dict(absent)
        written, suffix = [], _common_suffix(clip)
        part = staging / clip.key
        renew(part)
        for index, path in spaced(present, self._options.n_frames):
            if is_whole(path):
                self._link(path, part / frame_name(index, suffix))
                written.append(index)
            else:
                dropped[index] = "unreadable"
        frames = clip.frames or ()
        reason = "" if written else "no_frames" if not frames else next(iter(dropped.values()))
        outcome = Outcome(
            clip.key,
            clip.folder,
            clip.source_bytes() if present else 0,
            len(frames),
            len(frames),
            tuple(sorted((*written, *dropped))),
            tuple(written),
            tuple(sorted(dropped.items())),
            reason,
            suffix=suffix,
        )
        return put_in_place(outcome, part, root)

    def _link(self, path: Path, target: Path) -> None:
        try:
            LINKS[self._options.link](path, target)
        except OSError as error:
            if self._options.link != "copy" and error.errno in _REFUSED:
                raise RogaError(
                    f"--link {self._options.link}: {path} cannot be linked from {target.parents[2]} "
                    f"({error.strerror}); take --link copy, or a --data_dir on the same disk"
                ) from None
            raise


def _common_suffix(clip: Clip) -> str:
    return clip.frames[0][1].suffix.lower() if clip.frames else ".png"

"""Frames that are face crops already: copied or linked, never encoded again."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from datasets_ext.prepare.images import present_images, read_rgb
from datasets_ext.prepare.layout import Video
from datasets_ext.prepare.options import Options
from datasets_ext.prepare.outcome import Outcome, frame_name
from datasets_ext.prepare.sampling import spaced
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
class LinkOptions(Options):
    """Take images as they are.

    Attributes:
        n_frames: the most frames of each video, evenly spaced among those that are there.
        link: a key of ``LINKS``.
    """

    n_frames: int = 32
    link: str = "copy"

    MAKER: ClassVar[str] = "datasets_ext.prepare.link:Linker"
    NEEDS: ClassVar[tuple[str, ...]] = ()

    def problems(self) -> list[str]:
        """See ``options.Options``."""
        found = super().problems()
        if self.link not in LINKS:
            found.append(unknown_name("kind of link", self.link, LINKS))
        return found


class Linker:
    """The maker of ``LinkOptions``."""

    def __init__(self, options: LinkOptions):
        self._options = options

    def __call__(self, video: Video, folder: Path) -> Outcome:
        """Copy or link the images of ``video`` into ``folder``.

        Each is decoded once, so that a damaged one is reported now and not in training.
        """
        present, absent = present_images(video)
        frames, dropped = video.frames or (), dict(absent)
        written, suffix = [], frames[0][1].suffix.lower() if frames else ".png"
        for index, path in spaced(present, self._options.n_frames):
            if read_rgb(path) is None:
                dropped[index] = "unreadable"
            else:
                self._link(path, folder / frame_name(index, suffix))
                written.append(index)
        return Outcome(
            video.key,
            source_bytes=video.source_bytes() if present else 0,
            n_declared=len(frames),
            n_decoded=len(frames),
            planned=tuple(sorted((*written, *dropped))),
            written=tuple(written),
            dropped=tuple(sorted(dropped.items())),
            reason="" if written else "no_frames" if not frames else next(iter(dropped.values())),
            suffix=suffix,
        )

    def _link(self, path: Path, target: Path) -> None:
        try:
            LINKS[self._options.link](path, target)
        except OSError as error:
            if self._options.link != "copy" and error.errno in _REFUSED:
                raise RogaError(
                    f"--link {self._options.link}: {path} cannot be linked from {target.parents[2]} "
                    f"({error.strerror}); use --link copy, or a --data_dir on the same disk"
                ) from None
            raise

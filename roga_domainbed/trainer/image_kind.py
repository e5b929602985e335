"""How a dataset's image files become inputs of the network, which ``model.pkl`` keeps for images from elsewhere."""

from __future__ import annotations

from datasets_ext.folder import ManifestDataset
from roga_domainbed.host.backend import host

FACES = "faces"  # as ``datasets_ext.folder.FaceEnvironment`` reads
FOLDERS = "folders"  # as DomainBed's folders of images are read for evaluation


def image_kind(dataset_class: type) -> str | None:
    """``FACES`` or ``FOLDERS``; None for samples that are no image files."""
    if issubclass(dataset_class, ManifestDataset):
        return FACES
    if issubclass(dataset_class, host().datasets.MultipleEnvironmentImageFolder):
        return FOLDERS
    return None

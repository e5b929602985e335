"""RoGA and its family, the deepfake datasets and their metrics, as a DomainBed plugin.

Importing the package does nothing: no torch, no environment variables, no devices.
"""

__version__ = "0.1.0"

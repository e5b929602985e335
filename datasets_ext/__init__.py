"""The datasets that the plugin adds: manifest trees of face crops, and how to make them."""

"""From files to minibatches on the device: decoded once, augmented in batches, prefetched."""

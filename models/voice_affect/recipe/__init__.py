"""The recipe of voice_affect: recordings, augmentation, network, training, out-of-fold predictions, quality gate."""

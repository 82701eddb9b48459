"""The recipe of face_affect: data split, augmentation, network, calibration, export."""

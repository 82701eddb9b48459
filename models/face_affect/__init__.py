"""face_affect: facial expression over seven classes, from FER2013 pictures with the votes of FER+."""

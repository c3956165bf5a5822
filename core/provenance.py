"""The words by which a picture says that a machine drew it; the PNG and the API use the same."""

#: IPTC's term for a picture that a trained model drew.
TRAINED_ALGORITHMIC_MEDIA = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"

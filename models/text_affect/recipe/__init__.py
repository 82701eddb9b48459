"""The recipe of text_affect: data split, network, calibration, ONNX graph, and checks beside the test split."""

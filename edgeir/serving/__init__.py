"""Handing a bundle to a server: Triton Inference Server's model repository. Needs neither torch nor onnx."""

"""The fused ops: what they mean (`table`), readable NumPy twins (`reference`) and ONNX bodies (`functions`)."""

"""Loss landscapes of any model that exports to ONNX."""

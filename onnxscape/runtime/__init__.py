"""ONNX Runtime: devices, sessions, and the evaluation of one point."""

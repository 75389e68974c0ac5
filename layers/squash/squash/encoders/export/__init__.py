"""Makes encoders: from a package or a Hugging Face folder to ONNX. No layer holds this."""

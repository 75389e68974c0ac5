"""Encoders: what makes vectors of text or images. The contract, and how its models are run.

Nothing here loads ONNX Runtime, the tokenizers or Pillow before an encoder is opened.
"""

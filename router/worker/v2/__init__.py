"""The Open Inference Protocol V2: tensors in, tensors out, by one version's own signature.

`prepare(body, contract)` decodes a request into what the version's `predict` takes; `Prepared.encode` writes
the answer. Whatever is the caller's mistake raises `InferenceRefused`.
"""

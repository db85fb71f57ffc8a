"""The Open Inference Protocol V2: tensors in, tensors out, by one version's own signature."""

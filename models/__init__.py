"""The models: they know tensors, not batches."""

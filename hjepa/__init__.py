"""hjepa feeds self-supervised vision training: multi-crop loading with DALI, block masks, and a thin trainer."""

"""Kernels: one file each, with the definition in plain torch, the accelerated version and the public function."""

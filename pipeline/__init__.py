"""The data path: recipe, draws, source, index, sampler, backends, batch, loader, masks."""

"""Models: registry, fetch, materialise, load, prompt format, architecture."""

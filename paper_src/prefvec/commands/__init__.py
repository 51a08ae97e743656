"""Commands that work with vectors from the shell: extract, steer, evaluate."""

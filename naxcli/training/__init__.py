"""Training of one network: recipe, optimizer, loop, checkpoints and several processes."""

"""Training of one network: data, augmentation, recipe, optimizer, loop and checkpoints."""

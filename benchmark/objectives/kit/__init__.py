"""What objectives share: layers, losses, decoders, and the group of pairs that are contrasted with each other."""

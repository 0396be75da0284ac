"""The running thing. One writer makes the World; everything else here reads it."""

"""One module per step of a tile's life: submit, track, postprocess, publish."""

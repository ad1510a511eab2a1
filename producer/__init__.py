"""From an area to tiles to the queue, and watching what becomes of them."""

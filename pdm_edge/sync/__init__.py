"""Empties the buffer when a link exists; a row leaves only on a receipt."""

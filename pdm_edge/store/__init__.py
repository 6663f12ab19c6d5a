"""The durable buffer: everything accepted is kept until the far end has it."""

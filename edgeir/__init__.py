"""edgeir: from an image-restoration checkpoint to an engine on a device, with the loss measured on the way."""

__version__ = "0.1.0"

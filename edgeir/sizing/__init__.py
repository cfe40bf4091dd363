"""What a picture would take on a device: tiles, memory and time, modelled before anything is built, without torch."""

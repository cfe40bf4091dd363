"""The two adaptors that put the kernels into TensorRT: PTX compiled ahead of time, and a plugin library."""

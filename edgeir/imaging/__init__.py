"""Pictures: read, write, pad, tile, blend, measure and degrade them, with numpy and Pillow alone.

Import the module that holds what you need; this package re-exports nothing, so importing it costs nothing.

=================  =========================================================================
picture            `Picture`, the value that reading gives and writing takes
reading, writing   files to pictures and back, 8 and 16 bits, alpha and ICC profiles kept
listing            the pictures in a folder
colour, layout     luma and rounding to integers; H W C to N C H W and back
padding            to a size the network accepts, and back
tiling, blending   a large picture in tiles of one size, joined without seams
seams              whether a picture put together from tiles shows where they meet
metrics, ssim      how far two pictures are apart
degradations       what training and validation do to a clean picture (noise, weather, blur, compression)
resampling         any size from any size: bicubic, bilinear, by area
shuffles           random sequences of degradations: BSRGAN's and Real-ESRGAN's
conditions         the fixed validation conditions, seeded by name
measuring          the fixed measuring pictures, checked by hash
=================  =========================================================================
"""

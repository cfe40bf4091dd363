"""Videos and cameras: decode, restore and encode at the same time, with all that the file held beside its pictures.

`edgeir.video.kinds` imports nothing and says what is a video; every other module needs PyAV (the extra ``video``).
"""

"""A storage array that can fail: a FUSE passthrough over a folder, a child program of the harness.

It imports nothing of the harness, and without a fault it is no more than the folder behind it.

It speaks the kernel's protocol itself (include/uapi/linux/fuse.h) instead of using libfuse: only
so can it keep a hung operation without a thread, let go of it when its caller is killed (libfuse's
high-level interface never learns of that), and do without a library that must be installed.
"""

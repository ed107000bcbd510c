# The same by the C library, with a descriptor made free first.
# gate: forbidden_import
# alone: raised
import ctypes
import os

def revise_state(s):
    os.close(0)
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.socket(2, 1, 0)
    address = b"\x02\x00" + (@PORT@).to_bytes(2, "big") + b"\x7f\x00\x00\x01" + bytes(8)
    if fd < 0 or libc.connect(fd, address, 16) < 0:
        raise OSError(ctypes.get_errno(), "socket or connect")
    return s

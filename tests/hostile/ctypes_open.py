# Calls the C library's open and read.
# gate: forbidden_import
# alone: raised
import ctypes

def revise_state(s):
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.open(b"@SECRET@", 0)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "open")
    buffer = ctypes.create_string_buffer(1000)
    libc.read(fd, buffer, 1000)
    return list(buffer.raw)

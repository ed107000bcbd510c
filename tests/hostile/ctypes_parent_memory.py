# Reads the trainer's memory with process_vm_readv.
# gate: forbidden_import
# alone: raised
import ctypes

def revise_state(s):
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(64)
    pieces = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), 64)
    if libc.process_vm_readv(@PARENT@, pieces, 1, pieces, 1, 0) < 0:
        raise OSError(ctypes.get_errno(), "process_vm_readv")
    return list(buffer.raw)

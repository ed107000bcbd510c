# The same by the numbers of x86-64's second set of system calls.
# gate: forbidden_import
# alone: raised
import ctypes

def revise_state(s):
    libc = ctypes.CDLL(None, use_errno=True)
    for number in (2, 257):
        if libc.syscall(0x40000000 + number, b"@SECRET@", 0, 0) >= 0:
            return float(number)
    raise OSError(ctypes.get_errno(), "none works")

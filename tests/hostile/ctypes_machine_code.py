# Makes memory executable and jumps into it: mov eax, 42; ret.
# gate: forbidden_import
# alone: raised
import mmap

def revise_state(s):
    memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    memory.write(b"\xb8\x2a\x00\x00\x00\xc3")
    return 42.0

# An exception's traceback leads up into the child's own loop; there it answers in its place.
# gate: forbidden_name
# alone: bad_output
def revise_state(s):
    try:
        1 / 0
    except ZeroDivisionError as error:
        frame = error.__traceback__.tb_frame
        while "write_fd" not in frame.f_locals:
            frame = frame.f_back
        frame.f_globals["os"].write(frame.f_locals["write_fd"], b"\xff" * 4096)
    return s
